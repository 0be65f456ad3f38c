#!/usr/bin/env bash
# NVTabular 23.8.0, on the CPU: an operator that changes the number of rows (Filter, Dropna, JoinExternal) changes it in its own
# columns only. Where a workflow joins them with others by `+`, as most do, the columns are laid side by side from the top of each
# partition, without regard to the rows they came from:
# - Filter or Dropna on one column of 1,000 rows: 1,000 rows come back, the values that are left move up to other rows' labels, and the
#   end of each partition is filled with missing values;
# - JoinExternal with a table that has an item twice: from that item to the end of the partition, each row's value stands beside the
#   next row's label.
# So a model is trained with other rows' labels. One expects the rows to be dropped from all columns, or an error. There is neither an
# error nor a warning, and the schema is as it should be. No docstring says so; issue 515, open since 2021, says that Filter and
# Dropna "won't work well" beside other columns.
# Remedy: apply the operator to all columns that are needed, and branch off after it; drop_duplicates_ext=True, or a table without
# duplicates. Compare the number of rows with what is expected.
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
random = np.random.default_rng(0)
ROWS = 1_000
rows = pd.DataFrame({"item": np.arange(ROWS), "label": np.arange(ROWS), "price": random.normal(size=ROWS)})
rows["price_or_none"] = rows["price"].where(rows["price"] > 0)
prices = pd.DataFrame({"item": np.arange(ROWS), "listed": rows["price"]})
twice = pd.concat([prices, prices[prices["item"] == 10]], ignore_index=True)


def show(what, output, feature):
    parts = dask.dataframe.from_pandas(rows, npartitions=4)
    given = nvt.Workflow(output).fit_transform(Dataset(parts, cpu=True)).to_ddf().compute()
    filled = given.dropna(subset=[feature, "label"])
    own = rows["price"].to_numpy()[filled["label"].astype(int)]
    right = float((filled[feature].to_numpy() == own).mean())
    missing = len(given) - len(filled)
    print(f"  {what}: {len(given)} rows, {missing} of them with a missing value; {right:.1%} of the others have their own label")
    return len(given), right


def above_zero(table):
    return table[table["price"] > 0]


print(f"nvtabular {nvt.__version__}, {ROWS} rows in 4 partitions, {int((rows['price'] > 0).sum())} with a price above zero")
filtered = show("Filter, and labels", (["price"] >> nvt.ops.Filter(above_zero)) + ["label"], "price")
dropped = show("Dropna, and labels", (["price_or_none"] >> nvt.ops.Dropna()) + ["label"], "price_or_none")
joined = show("JoinExternal, one item twice, and labels", (["item"] >> nvt.ops.JoinExternal(twice, on=["item"])) + ["label"], "listed")
all_columns = ["price", "label"] >> nvt.ops.Filter(above_zero)
branches = show("remedy, Filter on both", (all_columns["price"] >> nvt.ops.LambdaOp(lambda price: price)) + all_columns["label"], "price")
once = ["item"] >> nvt.ops.JoinExternal(twice, on=["item"], drop_duplicates_ext=True)
without = show("remedy, drop_duplicates_ext=True", once + ["label"], "listed")
as_described = (
    filtered[0] == dropped[0] == ROWS
    and filtered[1] < 0.05
    and dropped[1] < 0.05
    and 0.6 < joined[1] < 0.9
    and branches == (int((rows["price"] > 0).sum()), 1.0)
    and without == (ROWS, 1.0)
)
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
