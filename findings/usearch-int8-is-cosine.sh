#!/usr/bin/env bash
# usearch 2.26.6: `Index(ndim, metric="ip", dtype="i8")` ranks by the cosine. Each vector is divided by its own length
# before it is rounded to whole numbers up to 127, and its length is kept nowhere: an item vector and ten times
# that vector are stored as the same bytes. So what an inner product of two-tower or ALS vectors says of popularity is
# lost: recall@10 against exact inner products is below 0.4 here, and above 0.9 against the cosine. With "f16" the same
# index has a recall above 0.95 by inner product, so one takes the loss for that of rounding.
# The distances are 1 - the inner product of the whole numbers, some -16,000 for the nearest, and no score of the model.
# There is no warning.
# Remedy: dtype="f16" or "bf16" (the default) for inner products.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import usearch
from usearch.index import Index

DIMENSION, K = 16, 10
random = np.random.default_rng(0)
items = (random.normal(size=(1_000, DIMENSION)) * random.uniform(0.1, 5, (1_000, 1))).astype(np.float32)
queries = random.normal(size=(100, DIMENSION)).astype(np.float32)
unit = items / np.linalg.norm(items, axis=1, keepdims=True)
best = {"inner product": np.argsort(-queries @ items.T)[:, :K], "cosine": np.argsort(-queries @ unit.T)[:, :K]}
recall = {}
for dtype in ("f16", "i8"):
    index = Index(ndim=DIMENSION, metric="ip", dtype=dtype, expansion_search=1_000, expansion_add=500)
    index.add(np.arange(len(items)), items, threads=1)
    matches = index.search(queries, K, threads=1)
    for name, exact in best.items():
        hits = [len(set(row) & set(right)) for row, right in zip(matches.keys.tolist(), exact.tolist(), strict=True)]
        recall[dtype, name] = float(np.mean(hits)) / K
        print(f"usearch {usearch.__version__}, ip, {dtype}: recall@{K} {recall[dtype, name]:.2f} by {name}")
    print(f"  the first distance is {matches.distances[0, 0]:.2f}, the inner product {(items @ queries[0]).max():.2f}")
short, long = Index(ndim=4, metric="ip", dtype="i8"), Index(ndim=4, metric="ip", dtype="i8")
short.add(0, items[0, :4])
long.add(0, 10 * items[0, :4])
print(f"i8, a vector and ten times the vector: {short.get(0).tolist()}, {long.get(0).tolist()}")
same = short.get(0).tolist() == long.get(0).tolist()
same = same and recall["i8", "inner product"] < 0.5 and recall["i8", "cosine"] > 0.8
same = same and recall["f16", "inner product"] > 0.95
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
