#!/usr/bin/env bash
# NVTabular 23.8.0: `JoinGroupby(stats=["mean"])` divides the sum of the values by the number of rows of the group, those without
# a value among them, where pandas (and `stats=["mean"]` of any group-by) divides by the values. 10, none, none, 30 have a mean of
# 10 instead of 20, and an id whose values are all missing has 0, which looks like a value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nvtabular==23.8.0 merlin-core==23.8.0 \
    merlin-dataloader==23.8.0 dask-cuda==23.8.0 pandas==1.5.3 numpy==1.24.3 pyarrow==15.0.2 numba==0.60.0 \
    tensorflow-metadata==1.17.3 protobuf==4.25.9 'setuptools<81'
cat >"$folder/show.py" <<'PYTHON'
import logging, os, sys, tempfile, warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

rows = pd.DataFrame({"id": [1, 1, 1, 1, 2, 2], "x": [10.0, None, None, 30.0, None, None]})
os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
grouped = ["id"] >> nvt.ops.JoinGroupby(cont_cols=["x"], stats=["mean", "count"])
given = nvt.Workflow(grouped).fit_transform(Dataset(rows, cpu=True)).to_ddf().compute()
means = [float(given["id_x_mean"].iloc[row]) for row in (0, 4)]
expected = rows.groupby("id")["x"].mean().tolist()
print(f"nvtabular {nvt.__version__}: means of 10, none, none, 30 and of none, none: {means}; pandas {pd.__version__}: {expected}")
sys.exit(0 if means == [10.0, 0.0] else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
