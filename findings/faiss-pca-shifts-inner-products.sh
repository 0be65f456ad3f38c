#!/usr/bin/env bash
# faiss 1.15.1 (1.8.0 does the same): `index_factory(d, "PCA8,Flat", METRIC_INNER_PRODUCT)` takes the mean of the item
# vectors off items and queries. Distances do not change by that, inner products do: the score of an item becomes
# query . item - mean . item, but for a constant of the query. The mean points to where popular or long vectors are, so
# that just these lose most. The scores that come back are those of the shifted vectors.
# Here all 8 of 8 dimensions are kept, so that nothing is lost, and the best items are still others: recall@10 against
# exact search is below 0.5, and 1 with "OPQ1_8", which rotates only. By L2 distance PCA's recall is 1. There is no
# warning, and one looks for the loss among the dimensions that were dropped.
# Remedy: `PCAMatrix` trained on the vectors beside their negatives, whose mean is zero; or OPQ.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import faiss
import numpy as np

DIMENSION, K = 8, 10
faiss.omp_set_num_threads(1)
random = np.random.default_rng(0)
items = (random.normal(size=(2_000, DIMENSION)) + random.normal(size=DIMENSION)).astype(np.float32)
queries = (random.normal(size=(100, DIMENSION)) + items.mean(axis=0)).astype(np.float32)


def recall(index: faiss.Index, exact: faiss.Index) -> float:
    found, best = index.search(queries, K)[1], exact.search(queries, K)[1]
    return float(np.mean([len(set(row) & set(right)) for row, right in zip(found, best, strict=True)])) / K


recalls = {}
for metric, exact in {"IP": faiss.IndexFlatIP(DIMENSION), "L2": faiss.IndexFlatL2(DIMENSION)}.items():
    exact.add(items)
    for factory in ("PCA8,Flat", "OPQ1_8,Flat"):
        index = faiss.index_factory(DIMENSION, factory, exact.metric_type)
        index.train(items)
        index.add(items)
        recalls[metric, factory] = recall(index, exact)
pca = faiss.PCAMatrix(DIMENSION, DIMENSION)
pca.train(np.concatenate([items, -items]))
exact = faiss.IndexFlatIP(DIMENSION)
exact.add(items)
index = faiss.IndexPreTransform(pca, faiss.IndexFlatIP(DIMENSION))
index.add(items)
recalls["IP", "PCA of vectors and negatives"] = recall(index, exact)
for (metric, factory), value in recalls.items():
    print(f"faiss {faiss.__version__}, {metric}, {factory}, no dimension dropped: recall@{K} {value:.3f}")
same = recalls.pop(("IP", "PCA8,Flat")) < 0.5 and min(recalls.values()) > 0.99
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
