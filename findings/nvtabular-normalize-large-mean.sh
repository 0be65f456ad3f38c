#!/usr/bin/env bash
# NVTabular 23.8.0: `Normalize` takes the variance as (sum of squares) - (square of the sum) / n, in float64. Where the mean
# is some hundred million times the spread, rounding is all that is left: seconds since 1970 within half a minute get a
# deviation of 0.17 instead of 1, or, where the variance comes out as zero or less, are shifted and not scaled at all
# (a deviation of 5). No error and no warning. Expected: standard deviation 1, as with small means.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nvtabular==23.8.0 merlin-core==23.8.0 \
    merlin-dataloader==23.8.0 dask-cuda==23.8.0 pandas==1.5.3 numpy==1.24.3 pyarrow==15.0.2 numba==0.60.0 \
    tensorflow-metadata==1.17.3 protobuf==4.25.9 'setuptools<81'
cat >"$folder/show.py" <<'PYTHON'
import logging, sys, warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

noise = np.random.default_rng(0).normal(0.0, 5.0, 10_000)
deviations = {}
for mean in (0.0, 1.7e9, 1e12):
    workflow = nvt.Workflow(["x"] >> nvt.ops.Normalize())
    made = workflow.fit_transform(Dataset(pd.DataFrame({"x": mean + noise}), cpu=True)).to_ddf().compute()["x"]
    deviations[mean] = float(made.std())
    print(f"nvtabular {nvt.__version__}: mean {mean:g}, deviation 5 -> deviation of the feature {deviations[mean]:.3f}")
same = abs(deviations[0.0] - 1) < 0.01 and all(abs(deviations[mean] - 1) > 0.5 for mean in (1.7e9, 1e12))
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
