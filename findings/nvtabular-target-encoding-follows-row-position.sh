#!/usr/bin/env bash
# NVTabular 23.8.0, `TargetEncoding` (kfold=3 by default), on the CPU: what a fitted workflow gives for an item depends on where its row
# stands in the partition. The docstring says that folds are for the data it is fitted on, and that "for transformation-only workflow
# execution, global-mean statistics are used instead". But every transform draws a fold for each row, by position and with one seed,
# and encodes the row without the training rows of that fold:
# - the same item in twelve rows, as in validation or in a request, has three values, none of them that of all its training rows. A request
#   of one row always gets the first of them.
# - training rows that are transformed in other partitions, or in another order, than they were fitted in get other folds than they
#   were counted in, so that their own labels are mostly in what they are encoded with. Labels that are random, which no
#   feature can know, correlate with it by some 0.2: the leak that folds are there to prevent.
# There is no warning.
# Remedy: transform training rows in the partitions and the order in which they are fitted (fit_transform), and then set `kfold = 1` on
# the operator, before anything else is transformed and before the workflow is saved.
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
import dask.dataframe
import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
ITEM, SMOOTHING = 7, 1
random = np.random.default_rng(0)
train = pd.DataFrame({"item": random.integers(0, 1_000, 10_000)})
train["label"] = (random.random(len(train)) < 0.5).astype("float64")
of_item = train.loc[train["item"] == ITEM, "label"]
of_all = (of_item.sum() + SMOOTHING * train["label"].mean()) / (len(of_item) + SMOOTHING)
asked = pd.DataFrame({"item": [ITEM] * 12, "label": 0.0})  # transform wants the column, too
encoding = nvt.ops.TargetEncoding("label", p_smooth=SMOOTHING)
workflow = nvt.Workflow(["item"] >> encoding)


def encoded(table):
    return workflow.transform(Dataset(table, cpu=True)).to_ddf().compute().iloc[:, 0].to_numpy()


def with_label(values, table):
    return float(np.corrcoef(values, table["label"])[0, 1])


parts = Dataset(dask.dataframe.from_pandas(train, npartitions=4), cpu=True)
fitted = with_label(workflow.fit_transform(parts).to_ddf().compute().iloc[:, 0].to_numpy(), train)
in_one = with_label(encoded(train.copy()), train)
shuffled = train.sample(frac=1, random_state=0, ignore_index=True)
in_another_order = with_label(encoded(shuffled.copy()), shuffled)
values = encoded(asked.copy())
alone = float(encoded(asked.iloc[:1].copy())[0])
encoding.kfold = 1
remedy = encoded(asked.copy())
workflow.save("workflow")
workflow = nvt.Workflow.load("workflow")
loaded = encoded(asked.copy())

print(f"nvtabular {nvt.__version__}; item {ITEM} by all its training rows: {of_all:.3f}")


def shown(numbers):
    return " ".join(f"{number:.3f}" for number in numbers)


print(f"  one item, transformed in twelve rows: {shown(values)}, and in one: {alone:.3f}")
print(f"  after kfold = 1: {shown(np.unique(remedy))}, and saved and loaded: {shown(np.unique(loaded))}")
print(f"  correlation with random labels: fit_transform in 4 partitions {fitted:.2f}", end=", ")
print(f"transform in one {in_one:.2f}, in another order {in_another_order:.2f}")
as_described = (
    len(np.unique(values)) > 1
    and not np.isclose(values, of_all, atol=1e-3).any()
    and alone == values[0]
    and np.allclose(remedy, of_all)
    and np.allclose(loaded, of_all)
    and fitted < 0.05
    and in_one > 0.1
    and in_another_order > 0.15
)
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
