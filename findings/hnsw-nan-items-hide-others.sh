#!/usr/bin/env bash
# hnswlib 0.8.0 and usearch 2.26.6: an item whose vector is NaN, as a tower gives for a missing price or 0 / 0, is accepted, and
# becomes a node of the graph like any other. Comparisons with NaN are false, so that searches go astray at it, and links are
# chosen wrongly where items are added. Such items stand in the answers, anywhere among the others; and beyond that
# other items, sound ones, are no longer found. With 10,000 items and a search width of 200, where recall@10 is above 0.99:
# - one NaN item in a thousand: recall@10 over the sound items is below 0.85;
# - one in a hundred: below 0.3; and usearch stays below 0.6, hnswlib below 0.9, when the NaN items have been removed
#   (`remove`, `mark_deleted`), and every answer is full and free of NaN.
# Nothing is raised or warned about. faiss 1.15.1 accepts such items in IndexHNSWFlat, too, answers none of them and stays above
# 0.9; chromadb 1.5.9 refuses them.
# Remedy: `numpy.isfinite(vectors).all(axis=1)` before items are added. Removing them is not enough: build the index again without them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check hnswlib==0.8.0 usearch==2.26.6 faiss-cpu==1.15.1 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version

import faiss
import hnswlib
import numpy as np
from usearch.index import Index

ITEMS, DIMENSION, K, LINKS, EFFORT = 10_000, 32, 10, 16, 200
faiss.omp_set_num_threads(1)
random = np.random.default_rng(0)
items, queries = (random.normal(size=(rows, DIMENSION)).astype(np.float32) for rows in (ITEMS, 100))
ids = np.arange(ITEMS)


def by_hnswlib(vectors, kept, removed):
    index = hnswlib.Index("l2", DIMENSION)
    index.init_index(ITEMS, M=LINKS, ef_construction=EFFORT)
    index.add_items(vectors[kept], kept, num_threads=1)
    index.set_ef(EFFORT)
    for item in removed:
        index.mark_deleted(item)
    return index.knn_query(queries, K, num_threads=1)[0]


def by_usearch(vectors, kept, removed):
    index = Index(ndim=DIMENSION, metric="l2sq", dtype="f32", connectivity=LINKS, expansion_add=EFFORT, expansion_search=EFFORT)
    index.add(kept, vectors[kept], threads=1)
    for item in removed:
        index.remove(item)
    return index.search(queries, K, threads=1).keys


def by_faiss(vectors, kept, removed):
    index = faiss.IndexHNSWFlat(DIMENSION, LINKS)
    index.hnsw.efConstruction = EFFORT
    index.add(vectors[kept])
    index.hnsw.efSearch = EFFORT
    return kept[index.search(queries, K)[1]]


def show(by, every, remedy=False, remove=False):
    bad = ids[::every] if every else ids[:0]
    vectors = items.copy()
    vectors[bad] = np.nan
    sound = np.setdiff1d(ids, bad)
    kept = np.flatnonzero(np.isfinite(vectors).all(axis=1)) if remedy else ids
    found = by(vectors, kept, bad if remove else bad[:0])
    exact = sound[np.argsort(((queries[:, None] - items[None, sound]) ** 2).sum(-1), axis=1)[:, :K]]
    recall = float(np.mean([len(set(row) & set(best)) / K for row, best in zip(found.tolist(), exact.tolist())]))
    share = float(np.isin(found, bad).mean())
    what = f", {'left out before' if remedy else 'removed after'}" if remedy or remove else ""
    print(f"  {by.__name__}, {len(bad)} NaN items{what}: recall@{K} of the others {recall:.2f}, NaN items {share:.0%} of the answers")
    return recall, share


print(*(f"{name} {version(name)}" for name in ("hnswlib", "usearch", "faiss-cpu")), sep=", ")
as_described = True
for by, limit in ((by_hnswlib, 0.9), (by_usearch, 0.6)):
    none, few, many = show(by, 0), show(by, 1_000), show(by, 100)
    removed, remedied = show(by, 100, remove=True), show(by, 100, remedy=True)
    as_described &= min(none[0], remedied[0]) > 0.99 and few[0] < 0.85 and many[0] < 0.3 and many[1] > 0.2
    as_described &= removed[0] < limit and removed[1] == 0
recall, share = show(by_faiss, 100)
as_described &= recall > 0.9 and share == 0
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
