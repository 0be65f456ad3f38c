#!/usr/bin/env bash
# pynndescent 0.7.0: metric="dot" is the cosine, not the inner product. Copies of items and queries are normalised
# first, so the lengths of item vectors, by which a two-tower model or ALS favours popular items, do not count, and the
# distances are 1 - cosine. In Annoy, "dot" is the inner product, as "ip" is in hnswlib. pynndescent's inner product is
# metric="inner_product".
# Nothing is raised or warned about: the answers look like good recommendations, but in the example below only a third
# of the best items are found.
# Remedy: metric="inner_product", and recall measured against exact search whenever an index is built.
# (The script takes minutes: pynndescent is compiled by Numba when it is first used.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pynndescent==0.7.0 numpy==1.26.4
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import pynndescent

random = np.random.default_rng(0)
items = (random.normal(size=(500, 8)) * random.uniform(0.1, 5, (500, 1))).astype(np.float32)
queries = random.normal(size=(50, 8)).astype(np.float32)
unit = items / np.linalg.norm(items, axis=1, keepdims=True)
best = {"inner product": np.argsort(-queries @ items.T)[:, :10], "cosine": np.argsort(-queries @ unit.T)[:, :10]}
recall = {}
for metric in ("dot", "inner_product"):
    index = pynndescent.NNDescent(items, metric=metric, n_neighbors=30, random_state=0)
    found, _ = index.query(queries, k=10, epsilon=0.5)
    for name, exact in best.items():
        hits = [len(set(row) & set(exact_row)) for row, exact_row in zip(found, exact, strict=True)]
        recall[metric, name] = np.mean(hits) / 10
        print(f"pynndescent {pynndescent.__version__}, {metric}: recall@10 {recall[metric, name]:.2f} by {name}")
same = recall["dot", "cosine"] > 0.9 and recall["dot", "inner product"] < 0.6
same = same and recall["inner_product", "inner product"] > 0.8
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
