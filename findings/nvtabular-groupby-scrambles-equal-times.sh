#!/usr/bin/env bash
# NVTabular 23.8.0, on the CPU: `Groupby(groupby_cols=["user"], sort_cols=["day"], aggs={"item": ["list", "last"]})`, which makes
# sessions and histories, does not keep the order of rows that are equal in `sort_cols`. The sort is pandas's default,
# a quicksort, which is stable on a small table only (up to 16 rows, as in a test).
# - A log in the order of events, with times by the day (or the minute, or MovieLens's seconds, where one page of ratings has one
#   time): no user's list is in the order of the log, and `last` is another item than the user's last for nine users of twenty here.
# - The same log without `sort_cols` is right. So asking for an order that the table has already takes order away.
# A sequence model learns the wrong next item, and a leave-last-out split holds out some other item, and trains on the last.
# The lists of one user agree among themselves, and every list is in order by day, so that nothing looks wrong. The docstring says that
# columns are used "to sort each partition", and nothing of ties. There is no warning.
# Remedy: the number of the row as a last sort column (two columns or more are sorted by a stable sort), or no `sort_cols` on a table
# that is in order.
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
import numpy as np
import nvtabular as nvt
import pandas as pd
from merlin.io import Dataset

ROWS, USERS, ROWS_A_DAY = 1_000, 20, 50
os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
row = np.arange(ROWS)  # also the item, so that a list in the order of the log is a list that rises
log = pd.DataFrame({"user": np.random.default_rng(0).integers(0, USERS, ROWS), "day": row // ROWS_A_DAY, "row": row, "item": row})


def show(what, sort_cols, log=log):
    grouped = list(log.columns) >> nvt.ops.Groupby(groupby_cols=["user"], sort_cols=sort_cols, aggs={"item": ["list", "last"], "day": ["list"]})
    users = nvt.Workflow(grouped).fit_transform(Dataset(log, cpu=True)).to_ddf().compute().set_index("user").sort_index()
    last = log.groupby("user")["item"].last()
    lists, lasts = (int(sum(list(items) != sorted(items) for items in users["item_list"])), int((users["item_last"] != last[users.index]).sum()))
    days = all(list(days) == sorted(days) for days in users["day_list"])
    print(f"  {what}: of {len(users)} users, {lists} have a list in another order, {lasts} another last item; user 0: {list(users['item_list'].iloc[0])[:8]}")
    return lists, lasts, days


print(f"nvtabular {nvt.__version__}, pandas {pd.__version__}")
by_day = show("sort_cols=['day']", ["day"])
unsorted = show("no sort_cols", [])
remedied = show("sort_cols=['day', 'row']", ["day", "row"])
small = show("sort_cols=['day'], 16 rows", ["day"], log[:16])
as_described = by_day[0] == USERS and by_day[1] >= USERS // 4 and by_day[2] and unsorted == remedied == small == (0, 0, True)
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
