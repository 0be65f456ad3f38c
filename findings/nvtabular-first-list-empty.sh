#!/usr/bin/env bash
# NVTabular 23.8.0 on merlin-core 23.8.0, on the CPU: a column of lists whose first row is an empty list has a schema of type
# "unknown", however many numbers follow, and a graph that passes the column on cannot be fitted: "The registered dtype mapping
# for numpy doesn't contain type unknown". With the same rows in another order it can.
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

os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
told = []
for rows in ([[], [0.5], [2.0, 1.0]], [[0.5], [2.0, 1.0], []]):
    data = Dataset(pd.DataFrame({"weights": rows}), cpu=True)
    try:
        nvt.Workflow(["weights"] >> nvt.ops.Rename(postfix="_renamed")).fit(data)
        told.append(f"{data.schema['weights'].dtype.name}: fitted")
    except ValueError as error:
        told.append(f"{data.schema['weights'].dtype.name}: {error}")
print(f"nvtabular {nvt.__version__}: empty list first: {told[0]}; last: {told[1]}")
expected = ["unknown: The registered dtype mapping for numpy doesn't contain type unknown.", "float64: fitted"]
sys.exit(0 if told == expected else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
