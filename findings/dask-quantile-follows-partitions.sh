#!/usr/bin/env bash
# dask 2023.7.1, which dask-cuda 23.8 pins (2026.8.0 does the same): `Series.quantile(0.8)` on several partitions, by
# default, is not near the true quantile. Each partition gives its own 0, 0.8 and 1 quantiles, and these few numbers are
# merged, so the answer depends on how rows lie in partitions, and on which other quantiles are asked for in the same
# call:
# - 10,000 times in order, two partitions: the answer is the end of the first half, and 50 % of the rows are later, not
#   20 %;
# - 1 to 1,000 as 2 rows and 998 rows: the median is 3;
# - the same rows, with the median asked for among other quantiles: 252.
# On one partition, as in a test on a small table, it is exact. There is no warning. `median_approximate` is the
# same function. Whoever splits interactions by such a time may hold out half of them, and sees a plausible
# number.
# Remedy: compute the one column, or a histogram of it, and take the quantile of that; or method="tdigest", with crick.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    'dask[dataframe]==2023.7.1' pandas==1.5.3 numpy==1.24.3
cat >"$folder/show.py" <<'PYTHON'
import sys

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd

seconds = pd.Series(np.sort(np.random.default_rng(0).integers(0, 1_000_000, 10_000)))
later = {}
for partitions in (1, 2, 5, 8):
    split = dd.from_pandas(seconds, npartitions=partitions).quantile(0.8).compute()
    later[partitions] = float((seconds > split).mean())
    print(f"dask {dask.__version__}, {partitions} partitions: 0.8 quantile {split:.0f}, {later[partitions]:.0%} later")

numbers = pd.Series(np.arange(1.0, 1_001.0))
parts = dd.concat([dd.from_pandas(part, npartitions=1) for part in (numbers[:2], numbers[2:])])
exact = numbers.median()
alone = float(parts.quantile(0.5).compute())
among = float(parts.quantile([0.1, 0.25, 0.5, 0.75, 0.9]).compute()[0.5])
print(f"median of 1 to 1,000 in partitions of 2 and 998 rows: {alone} alone, {among} among others, {exact} in truth")
same = abs(later[1] - 0.2) < 0.001 and later[2] > 0.45 and later[8] > 0.24 and alone < 10 and 10 < among < 400
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
