#!/usr/bin/env bash
# merlin-dataloader 23.8.0: Loader(..., shuffle=True) shuffles the partitions of a dataset, and then the rows of one partition at a
# time. With ten Parquet files of 1,000 rows every batch of 100 comes from a single file, in every epoch; parts_per_chunk=4 mixes
# up to four. Files that an export or a Spark job sorted by user, time or country give batches of one user's, one week's or one
# country's rows, and with in-batch negatives, as merlin-models' and TFRS's two-towers have, every negative of a row is of
# its own country. The same rows in one file are shuffled whole, so that how a table was written changes what is learned.
# There is no warning.
# Remedy: parts_per_chunk as large as memory allows, or shuffle the rows over all files before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check merlin-dataloader==23.8.0 merlin-core==23.8.0 \
    tensorflow-cpu==2.12.1 dask-cuda==23.8.0 pandas==1.5.3 numpy==1.23.5 pyarrow==15.0.2 numba==0.60.0 \
    tensorflow-metadata==1.13.1 'setuptools<81'
cat >"$folder/show.py" <<'PYTHON'
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from merlin.dataloader.tensorflow import Loader
from merlin.io import Dataset

FILES, ROWS, BATCH = 10, 1_000, 100
folder = Path(sys.argv[1])
for country in range(FILES):
    frame = pd.DataFrame({"item_id": np.arange(ROWS), "country": np.full(ROWS, country)})
    frame.to_parquet(folder / f"part-{country}.parquet", index=False)
whole = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))])
whole.to_parquet(folder / "whole.parquet", index=False)
parts = sorted(map(str, folder.glob("part-*.parquet")))


def countries(what, paths, **settings):
    loader = Loader(Dataset(paths, engine="parquet"), batch_size=BATCH, shuffle=True, **settings)
    counts = [len(np.unique(batch[0]["country"])) for _ in range(2) for batch in loader]
    print(f"  {what}: {min(counts)} to {max(counts)} of {FILES} countries in a batch of {BATCH}, {len(counts)} batches of two epochs")
    return min(counts), max(counts)


print(f"merlin-dataloader {version('merlin-dataloader')}, shuffle=True")
alone = countries("a file for each country", parts)
chunks = countries("... parts_per_chunk=4", parts, parts_per_chunk=4)
together = countries("all in one file", [str(folder / "whole.parquet")])
as_described = alone == (1, 1) and 1 < chunks[1] <= 4 and together[0] > 7
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder" 2>/dev/null
