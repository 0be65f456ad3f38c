#!/usr/bin/env bash
# NVTabular 23.8.0, on the CPU: `HashBucket` gives ids that are whole numbers other buckets where their partition has a missing id. A column
# of whole numbers with a missing one is float64 in pandas, and the hash of 7.0 is not that of 7. So a model is trained with an
# item's embedding and asked with another item's as soon as one row of a partition, or of a request, has no id: all rows of it are
# concerned. One expects the bucket to depend on the id alone, which is what a hash is for. There is no warning, and the schema says nothing.
# Remedy: text. Ids that are strings keep their buckets beside a missing one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nvtabular==23.8.0 merlin-core==23.8.0 \
    merlin-dataloader==23.8.0 dask-cuda==23.8.0 pandas==1.5.3 numpy==1.24.3 pyarrow==15.0.2 numba==0.60.0 \
    tensorflow-metadata==1.17.3 protobuf==4.25.9 'setuptools<81'
cat >"$folder/show.py" <<'PYTHON'
import logging
import os
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
IDS = list(range(101, 121))
KNOWN = pd.DataFrame({"item": list(range(1, 101))})


def numbered(workflow, ids):
    table = pd.DataFrame({"item": ids})
    values = workflow.transform(Dataset(table, cpu=True)).to_ddf().compute()["item"]
    return np.asarray(values.tolist())[: len(IDS)]


def kept(workflow, convert):
    ids = [convert(one) for one in IDS]
    return float((numbered(workflow, ids) == numbered(workflow, [*ids, None])).mean())


hashed = nvt.Workflow(["item"] >> nvt.ops.HashBucket(1000))
hashed.fit(Dataset(KNOWN, cpu=True))
text = nvt.Workflow(["item"] >> nvt.ops.HashBucket(1000))
text.fit(Dataset(KNOWN.astype(str), cpu=True))

print(f"nvtabular {nvt.__version__}: of {len(IDS)} ids, those that HashBucket(1000) gives the same bucket beside a missing id")
shares = {
    "whole numbers": kept(hashed, int),
    "text": kept(text, str),
}
for what, share in shares.items():
    print(f"  {what}: {share:.0%}")
numbers, texts = shares.values()
as_described = numbers < 0.2 and texts == 1
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
