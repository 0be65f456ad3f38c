#!/usr/bin/env bash
# RecTools 0.19.0: `NDCG(k)`, documented to lie in [0, 1], and the metrics beside it are computed from a join of
# recommendations with interactions, row by row. Interactions are a log, and a user who has an item three times counts
# it three times:
# - NDCG@3 of a list with one right item, at rank 1, is 1.41, and Precision@3 is 1.0; Recall is 0.75 of two items, of
#   which one is found;
# - without the repetitions, NDCG@3 is 0.47, also where that item is the only one held out and the list cannot be
#   better: the ideal list of the default has k right items. So NDCG(10) of leave-one-out is at most 0.22, and is not
#   the NDCG of other libraries.
# Nothing is raised or warned about, and means over users may look in order.
# Remedy: `interactions.drop_duplicates(["user_id", "item_id"])` before any metric, and `divide_by_achievable=True`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check rectools==0.19.0 numpy==1.26.4 pandas==2.3.3
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")
import pandas as pd
from rectools.metrics import NDCG, Precision, Recall

shown = pd.DataFrame({"user_id": 1, "item_id": [10, 20, 30], "rank": [1, 2, 3]})
logs = {"10 three times, 11 once": [10, 10, 10, 11], "10 and 11": [10, 11], "10": [10]}
metrics = {
    "NDCG": NDCG(k=3),
    "achievable NDCG": NDCG(k=3, divide_by_achievable=True),
    "precision": Precision(k=3),
    "recall": Recall(k=3),
}
found = {}
for log, items in logs.items():
    interactions = pd.DataFrame({"user_id": 1, "item_id": items})
    found[log] = {name: round(float(metric.calc(shown, interactions)), 2) for name, metric in metrics.items()}
    print(f"RecTools {version('rectools')}, shown 10, 20, 30, held out {log}: {found[log]}")
same = found == {
    "10 three times, 11 once": {"NDCG": 1.41, "achievable NDCG": 1.41, "precision": 1.0, "recall": 0.75},
    "10 and 11": {"NDCG": 0.47, "achievable NDCG": 0.61, "precision": 0.33, "recall": 0.5},
    "10": {"NDCG": 0.47, "achievable NDCG": 1.0, "precision": 0.33, "recall": 1.0},
}
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
