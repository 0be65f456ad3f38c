#!/usr/bin/env bash
# usearch 2.26.6: `Index.restore(path)` takes dimensions, metric, dtype and connectivity from the file, but not
# `expansion_search` and `expansion_add`, which go back to the defaults, 64 and 128. So an index that was tuned to a recall,
# saved, and is served from the file, which is what `restore` is for, has another recall than was measured: recall@10 above
# 0.95 is below 0.75 here. Items that are added later are linked in with less care, too. There is no warning. `copy()`
# keeps both, and so does `load` into an index that was made with them.
# Remedy: `Index.restore(path, expansion_search=..., expansion_add=...)`; and measure recall on what was restored.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from usearch.index import Index

ITEMS, DIMENSION, K = 10_000, 128, 10
SETTINGS = {"expansion_add": 300, "expansion_search": 600}
path = sys.argv[1]
random = np.random.default_rng(0)
items, queries = (random.normal(size=(rows, DIMENSION)).astype(np.float32) for rows in (ITEMS, 200))
items /= np.linalg.norm(items, axis=1, keepdims=True)
exact = np.argsort(-queries @ items.T, axis=1)[:, :K].tolist()


def show(what, index):
    found = index.search(queries, K, threads=1).keys.tolist()
    recall = float(np.mean([len(set(row) & set(best)) / K for row, best in zip(found, exact)]))
    print(f"  {what}: recall@{K} {recall:.2f}, expansion_search {index.expansion_search}, _add {index.expansion_add}, connectivity {index.connectivity}")
    return recall, index.expansion_search


print(f"usearch {version('usearch')}")
index = Index(ndim=DIMENSION, metric="ip", dtype="f32", connectivity=16, **SETTINGS)
index.add(np.arange(ITEMS), items, threads=1)
index.save(path)
built = show("as built", index)
restored, viewed = show("restored", Index.restore(path)), show("restored, view=True", Index.restore(path, view=True))
copied = show("copied", index.copy())
made = Index(ndim=DIMENSION, metric="ip", dtype="f32", connectivity=16, **SETTINGS)
made.load(path)
loaded, remedied = show("loaded", made), show("restored with the settings", Index.restore(path, **SETTINGS))
as_described = min(built[0], copied[0], loaded[0], remedied[0]) > 0.95 and max(restored[0], viewed[0]) < 0.75 and restored[1] == viewed[1] == 64
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder/items.usearch"
