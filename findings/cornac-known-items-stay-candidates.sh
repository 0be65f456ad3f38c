#!/usr/bin/env bash
# cornac 2.2.2: `rating_threshold`, 1.0 by default, decides which held-out items count as right. It also decides which
# items a user is taken to know: training items below it stay among the candidates that are ranked, and each that is
# recommended counts as wrong.
# - Implicit data with weights below 1, such as shares watched or decayed counts: every known item is ranked against the
#   held-out ones, of which only those of weight 1 or more count. A model that has learnt its training data puts the
#   known ones first.
# - Stars with a threshold of 4: items that the user gave 3 in training are offered again.
# Here, a model that scores the held-out items right below the known ones gets an NDCG@5 of 0 with the default, and of 1
# with a threshold below all weights. Users without a held-out item at or above the threshold are left out of the means.
# There is no warning.
# Remedy: give all interactions the value 1 before cornac sees them, or set a threshold below the smallest weight.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check cornac==2.2.2 numpy==1.26.4 scipy==1.13.1
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings

warnings.filterwarnings("ignore")
import cornac
import numpy as np
from cornac.eval_methods import BaseMethod
from cornac.metrics import NDCG

USERS, ITEMS, KNOWN = 20, 30, 6
random = np.random.default_rng(0)
training, held_out = [], []
for user in range(USERS):
    items = [f"i{item}" for item in random.permutation(ITEMS)[: KNOWN + 1]]
    training += [(f"u{user}", item, 0.5) for item in items[:KNOWN]]
    held_out.append((f"u{user}", items[KNOWN], 1.0))
answer = {user: item for user, item, _ in held_out}


class Learnt(cornac.models.Recommender):
    """Scores known items 2, the held-out item 1 and all others 0."""

    def score(self, user_idx, item_idx=None):
        scores = np.zeros(self.num_items)
        scores[self.train_set.csr_matrix[user_idx].indices] = 2
        scores[self.iid_map[answer[self.user_ids[user_idx]]]] = 1
        return scores if item_idx is None else scores[item_idx]

    def fit(self, train_set, val_set=None):
        self.train_set = train_set
        return super().fit(train_set, val_set)


found = {}
for threshold in (None, 0.1):
    options = {} if threshold is None else {"rating_threshold": threshold}
    method = BaseMethod.from_splits(training, held_out, exclude_unknowns=True, verbose=False, **options)
    result, _ = method.evaluate(Learnt("learnt"), [NDCG(k=5)], user_based=True, show_validation=False)
    found[threshold] = float(result.metric_avg_results["NDCG@5"])
    name = "the default threshold" if threshold is None else f"a threshold of {threshold}"
    print(f"cornac {cornac.__version__}, training values of 0.5, {name}: NDCG@5 {found[threshold]:.2f}")
sys.exit(0 if found == {None: 0.0, 0.1: 1.0} else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
