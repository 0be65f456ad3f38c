#!/usr/bin/env bash
# NVTabular 23.8.0, on the CPU: `Groupby(..., ascending=False)`, which sorts newest first, for one, so that
# `ListSlice(20)` keeps the newest twenty, turns round the lists but not `first` and `last` beside them: `item_first` is the last of
# `item_list`, and `item_last` its first. With ascending=True they agree. So the two columns of one operator contradict each
# other, and who takes `first` for the newest, as the list has it, holds out each user's oldest item, or shows it as the one just seen.
# - A row without a time is sorted to the end of the list in both directions. So with ascending=False it is `first`, where
#   neither the oldest nor the newest event is meant.
# - Without `sort_cols`, `ascending=False` does not touch the order of the list, and `first` is still the last of the rows.
# The docstring has "first" and "last" among the "list-based aggregations", and does not mention `ascending`. There is no warning.
# Remedy: leave `ascending` alone, take "last" for the newest, and `ListSlice(-20)` for the newest twenty; drop rows without a time.
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
whole = pd.DataFrame({"user": [1, 1, 1], "time": [3.0, 1.0, 2.0], "item": ["newest", "oldest", "middle"]})
gap = pd.DataFrame({"user": [1, 1, 1], "time": [3.0, 1.0, None], "item": ["newest", "oldest", "no time"]})


def show(what, log, **settings):
    grouped = ["user", "time", "item"] >> nvt.ops.Groupby(groupby_cols=["user"], aggs={"item": ["list", "first", "last"]}, **settings)
    row = nvt.Workflow(grouped).fit_transform(Dataset(log, cpu=True)).to_ddf().compute().iloc[0]
    told = list(row["item_list"]), row["item_first"], row["item_last"]
    print(f"  {what}: list {told[0]}, first {told[1]!r}, last {told[2]!r}")
    return told


print(f"nvtabular {nvt.__version__}, pandas {pd.__version__}")
told = [
    show("ascending", whole, sort_cols=["time"]),
    show("ascending=False", whole, sort_cols=["time"], ascending=False),
    show("ascending=False, one row without a time", gap, sort_cols=["time"], ascending=False),
    show("ascending=False, no sort_cols", whole, ascending=False),
]
as_described = told == [
    (["oldest", "middle", "newest"], "oldest", "newest"),
    (["newest", "middle", "oldest"], "oldest", "newest"),
    (["newest", "oldest", "no time"], "no time", "newest"),
    (["newest", "oldest", "middle"], "middle", "newest"),
]
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
