#!/usr/bin/env bash
# NVTabular 23.8.0, on the CPU: `Bucketize` puts a missing value into the last bucket, that of the largest values. A product without a
# price is among the most expensive, a user without an age among the oldest, an item without a last sale the longest unsold.
# The other operators keep it apart: `Categorify` gives a missing value a code of its own, 1, and `Normalize` leaves it missing, as
# `pandas.cut` does. A model cannot tell the two kinds of rows in the bucket from each other: where 30 % of the prices are missing and
# a tenth of the rest are in the top bucket, four rows in five of that bucket have no price.
# The docstring does not mention missing values, and the column that comes back is int32 without a gap, so nothing shows it. There is no warning.
# Remedy: `FillMissing(fill_val=...)` before it, with a value below all others and a first boundary above that value, which makes a bucket of them.
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

ROWS, EDGES = 10_000, [0, 10, 20, 90]
os.chdir(tempfile.mkdtemp(dir=sys.argv[1]))
random = np.random.default_rng(0)
price = random.uniform(0, 100, ROWS)
price[random.random(ROWS) < 0.3] = np.nan
missing = np.isnan(price)


def after(*operators):
    graph = ["price"]
    for operator in operators:
        graph = graph >> operator
    data = Dataset(pd.DataFrame({"price": price}), cpu=True)
    return nvt.Workflow(graph).fit_transform(data).to_ddf().compute()["price"]


def show(what, codes):
    where, rest = sorted(set(codes[missing])), sorted(set(codes[~missing]))
    top = codes == codes.max()
    print(f"  {what}: {codes.dtype}, buckets of prices {rest}, of missing prices {where}; top bucket: {top.mean():.2f} of the rows, {missing[top].mean():.2f} of it missing")
    return where, rest, float(missing[top].mean())


print(f"nvtabular {nvt.__version__}, numpy {np.__version__}")
plain = show("Bucketize", after(nvt.ops.Bucketize(EDGES)))
remedied = show("FillMissing(-1) >> Bucketize", after(nvt.ops.FillMissing(fill_val=-1), nvt.ops.Bucketize(EDGES)))
left = bool(after(nvt.ops.Normalize())[missing].isna().all())
coded = set(after(nvt.ops.Categorify())[missing])
print(f"  Normalize leaves them missing: {left}; Categorify: code {coded}; pandas.cut: {pd.cut(price, EDGES)[missing].isna().all()}")
as_described = plain[:2] == ([4], [1, 2, 3, 4]) and plain[2] > 0.75 and remedied == ([0], [1, 2, 3, 4], 0.0) and left and coded == {1}
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
