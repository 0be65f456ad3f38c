#!/usr/bin/env bash
# recommenders 1.2.1 (once Microsoft's), `recommenders.evaluation.python_evaluation`: the metrics of one evaluation are means over
# different users.
# - `r_precision_at_k`: those with a hit among their first R items, and no others. Here one user of a hundred has hits, and
#   it is 1.0. It cannot tell a model that serves one user from one that serves all.
# - `precision_at_k`, `recall_at_k`, `map_at_k`, `map`: those with recommendations. A model that answers the ten users that it knows and
#   nobody else has a recall of 1.0; one that serves these just as well, and every third of the others, has less. So a model that fails
#   on cold users, or filters hard, is the better one.
# - `ndcg_at_k`: all that have held-out items. It says 0.1 of the first model.
# Besides, `relevancy_method="by_threshold", threshold=4` counts each user's first 4 items, whatever they score; the module for Spark
# does compare scores with it. (Pull request 2310 changes that after this version.)
# There is no warning in any case.
# Remedy: give each user without recommendations a row with an item that does not exist; take R-precision times the share of users
# with a hit among their first R; filter by score before the call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
# Its dependencies are some hundred packages, of which evaluation needs these.
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 pandas==2.3.3 scikit-learn==1.7.2 scipy==1.15.3
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps recommenders==1.2.1
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")
import recommenders
from recommenders.evaluation import python_evaluation

USERS, KNOWN, K, NO_ITEM = 100, 10, 2, -1
COLUMNS = {"col_user": "user", "col_item": "item", "col_prediction": "score"}
NAMES = ("precision_at_k", "recall_at_k", "map_at_k", "r_precision_at_k", "ndcg_at_k")
held_out = pd.DataFrame({"user": np.repeat(np.arange(USERS), K), "item": np.tile(np.arange(K), USERS), "rating": 1.0})


def answers(right, wrong):
    rows = [(user, rank, 3.0 - rank) for user in right for rank in range(K)]
    rows += [(user, 100 + rank, 3.0 - rank) for user in wrong for rank in range(K)]
    return pd.DataFrame(rows, columns=["user", "item", "score"])


def measured(what, predictions):
    values = {}
    for name in NAMES:
        rating = {"col_rating": "rating"} if name == "ndcg_at_k" else {}
        values[name] = round(float(getattr(python_evaluation, name)(held_out, predictions, k=K, **COLUMNS, **rating)), 2)
    print(f"  {what}:", values)
    return values


def filled(predictions):
    silent = np.setdiff1d(held_out["user"].unique(), predictions["user"])
    return pd.concat([predictions, pd.DataFrame({"user": silent, "item": NO_ITEM, "score": 0.0})], ignore_index=True)


def r_precision(predictions):
    """The mean over all users who have held-out items."""
    wanted = held_out.groupby("user").size()
    ranked = predictions.sort_values(["user", "score"], ascending=[True, False])
    ranked["rank"] = ranked.groupby("user").cumcount()
    found = ranked[ranked["rank"] < ranked["user"].map(wanted)].merge(held_out, on=["user", "item"])
    return round(float((found.groupby("user").size() / wanted).fillna(0).mean()), 2)


print(f"recommenders {recommenders.__version__}, {USERS} users with {K} held-out items each, k = {K}")
users = range(USERS)
one = answers(users[:1], users[1:])
few = answers(users[:KNOWN], [])
many = answers([user for user in users if user < KNOWN or user % 3 == 0], [user for user in users if user >= KNOWN and user % 3])
of_one = measured("one user served, 99 with wrong items", one)
of_few = measured("ten users served, 90 without an answer", few)
of_many = measured("the ten and every third of the others served", many)
of_filled = measured("ten users served, filled", filled(few))
by_hand = [r_precision(predictions) for predictions in (one, few, many)]
print("  R-precision over all users:", by_hand)

wrong_first = ((7, 5.0), (8, 4.0), (0, 3.0), (1, 2.0))
scored = pd.concat([pd.DataFrame({"user": users, "item": item, "score": score}) for item, score in wrong_first])
cuts = {
    'relevancy_method="by_threshold", threshold=4': (scored, {"relevancy_method": "by_threshold", "threshold": 4}),
    "k=4": (scored, {"k": 4}),
    "only items that score 4 or more": (scored[scored["score"] >= 4], {"k": 4}),
}
print("  recall where each user's items score 5, 4, 3 and 2, and the last two are right:")
recall = []
for what, (predictions, settings) in cuts.items():
    recall.append(round(float(python_evaluation.recall_at_k(held_out, predictions, **COLUMNS, **settings)), 2))
    print(f"    {what}: {recall[-1]}")

as_described = (
    of_one["r_precision_at_k"] == of_few["r_precision_at_k"] == of_many["r_precision_at_k"] == 1.0
    and of_one["recall_at_k"] == 0.01
    and of_few["recall_at_k"] == of_few["precision_at_k"] == of_few["map_at_k"] == 1.0
    and of_many["recall_at_k"] < 0.5
    and of_few["ndcg_at_k"] == 0.1 < of_many["ndcg_at_k"]
    and of_filled["recall_at_k"] == of_filled["precision_at_k"] == of_filled["map_at_k"] == of_filled["ndcg_at_k"] == 0.1
    and by_hand == [0.01, 0.1, of_many["ndcg_at_k"]]
    and recall == [1.0, 1.0, 0.0]
)
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
