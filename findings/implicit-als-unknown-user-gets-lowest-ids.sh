#!/usr/bin/env bash
# implicit 0.7.3, AlternatingLeastSquares: a user without interactions in training gets a vector of zeros, so that every
# item scores 0.0, and `recommend` answers the N lowest item ids, the highest of them first. Nothing is raised, and no
# score says "no answer". `ranking_metrics_at_k` counts such users like others. Where ids are given by frequency, as
# vocabularies are (NVTabular's Categorify, for one), the lowest ids are the most popular items, and the figure for new
# users is that of a popularity baseline; with the same data and other numbers for the items it is near zero.
# BayesianPersonalizedRanking has item biases and ranks by these.
# Remedy: evaluate users without interactions apart, and decide what they are to get; scores that are all 0.0 show them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check implicit==0.7.3 numpy==1.26.4 scipy==1.13.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import implicit
import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix

USERS, NEW, ITEMS, K = 400, 100, 200, 10
random = np.random.default_rng(0)
chance = 3 / (np.arange(ITEMS) + 10)  # item 0 is the most popular one
by_popularity = (random.random((USERS, ITEMS)) < chance).astype(np.float32)
numberings = {"by popularity": np.arange(ITEMS), "in reverse": np.arange(ITEMS)[::-1]}
found = {}
for name, order in numberings.items():
    likes = by_popularity[:, order]
    known, held_out = likes.copy(), likes.copy()
    known[:NEW] = 0
    held_out[NEW:] = 0
    model = AlternatingLeastSquares(factors=8, iterations=5, random_state=0, num_threads=1)
    model.fit(csr_matrix(known), show_progress=False)
    ids, scores = model.recommend(0, csr_matrix(known)[0], N=K)
    metrics = ranking_metrics_at_k(
        model, csr_matrix(known), csr_matrix(held_out), K=K, show_progress=False, num_threads=1
    )
    found[name] = ids.tolist(), set(scores.tolist()), float(metrics["ndcg"])
    print(f"implicit {implicit.__version__}, ids {name}: a new user gets {found[name][0]}, scores {found[name][1]}")
    print(f"ids {name}: NDCG@{K} of {NEW} new users {found[name][2]:.3f}")
same = all(ids == list(range(K))[::-1] and scores == {0.0} for ids, scores, _ in found.values())
same = same and found["by popularity"][2] > 5 * found["in reverse"][2]
sys.exit(0 if same else "the behaviour has changed")
PYTHON
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" "$folder/show.py"
