#!/usr/bin/env bash
# implicit 0.7.3, `ranking_metrics_at_k` (and `precision_at_k`, which calls it): "precision" is neither the mean over
# users, as the "map", "ndcg" and "auc" beside it are, nor divided by k. It is the hits of all users over the sum of
# min(k, held-out items).
# - Two hits among ten recommendations, for a user with two held-out items: 1.0. Precision@10 is 0.2.
# - One user with one held-out item, missed, and one with ten, all found: 0.91. The mean over users is 0.5, which "map"
#   and "ndcg" say.
# So users with many held-out items decide it, and it cannot be compared with a precision@k of another library or of a
# paper.
# Remedy: count hits per user from `recommend`; or hold out one item per user, where it is the hit rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check implicit==0.7.3 numpy==1.26.4 scipy==1.13.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import implicit
import numpy as np
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix

ITEMS = 30


class FirstTen:
    """Recommends items 0 to 9 to everyone."""

    def recommend(self, users, user_items, N=10, **options):
        return np.tile(np.arange(N, dtype=np.int32), (len(users), 1)), np.zeros((len(users), N), np.float32)


def measured(held_out: list[list[int]]) -> dict[str, float]:
    rows = np.zeros((len(held_out), ITEMS), np.float32)
    for user, items in enumerate(held_out):
        rows[user, items] = 1
    nothing = csr_matrix(rows.shape, dtype=np.float32)
    metrics = ranking_metrics_at_k(FirstTen(), nothing, csr_matrix(rows), K=10, show_progress=False, num_threads=1)
    return {name: round(float(value), 3) for name, value in metrics.items()}


two_hits = measured([[0, 5]])
missed_and_found = measured([[29], list(range(10))])
print(f"implicit {implicit.__version__}, two hits in ten, two held out: {two_hits}")
print(f"one held out and missed, ten held out and found: {missed_and_found}")
told = {"precision": 0.909, "map": 0.5, "ndcg": 0.5}
same = two_hits["precision"] == 1.0 and missed_and_found | told == missed_and_found
sys.exit(0 if same else "the behaviour has changed")
PYTHON
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" "$folder/show.py"
