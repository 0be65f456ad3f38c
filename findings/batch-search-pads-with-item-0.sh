#!/usr/bin/env bash
# Two libraries for vector search fill the answer of a batch up with item 0 where fewer than k items were reached:
# - ScaNN 1.4.2, `search_batched`: id 0 and a distance of NaN, where few leaves are searched or more neighbours are
#   asked for than are reordered. `search`, for one query, gives a shorter answer.
# - usearch 2.26.6, `search` of several vectors: key 0 and NaN, where there are fewer items than k; `matches.counts` says
#   how many hold. `search` of one vector gives a shorter answer.
# faiss gives -1. Nothing is raised or warned about. Where ids are positions, item 0 is an item, and often the most
# popular one: it is shown many times over, and found for each user who has it held out. NaN gets past a filter that
# takes scores away, for neither `distance < limit` nor `distance > limit` is true of it.
# Remedy: cut each answer where its distance is NaN, before ids are looked at.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    scann==1.4.2 usearch==2.26.6 numpy==2.2.6 protobuf==7.36.2
cat >"$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import scann
from usearch.index import Index

ITEMS, DIMENSION = 1_000, 16
random = np.random.default_rng(0)
items = random.normal(size=(ITEMS, DIMENSION)).astype(np.float32)
queries = random.normal(size=(8, DIMENSION)).astype(np.float32)

tree = {"num_leaves": 50, "num_leaves_to_search": 1, "training_sample_size": ITEMS}
searcher = scann.scann_ops_pybind.builder(items, 100, "dot_product").tree(**tree).score_brute_force().build()
index = Index(ndim=DIMENSION, metric="ip", dtype="f32")
index.add(np.arange(1, 51), items[:50], threads=1)  # no item has the key 0
matches = index.search(queries, 100, threads=1)
scann_alone = min(len(searcher.search(query)[0]) for query in queries)
usearch_alone = min(len(index.search(query, 100).keys) for query in queries)
answers = {
    f"ScaNN {version('scann')}": (*searcher.search_batched(queries), scann_alone),
    f"usearch {version('usearch')}": (matches.keys, matches.distances, usearch_alone),
}
same = True
for name, (ids, distances, alone) in answers.items():
    missing = np.isnan(distances)
    most = int(missing.sum(axis=1).max())
    print(f"{name}, 100 asked for: as few as {alone} for one query, {ids.shape[1]} in a batch of {len(ids)}")
    print(f"  up to {most} of the latter have NaN as distance, and the ids {set(ids[missing].tolist())}")
    same = same and most > 10 and alone < ids.shape[1] and (ids[missing] == 0).all()
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py" 2> >(grep -v 'absl\|^[IW][0-9]' >&2)
