#!/usr/bin/env bash
# A user, or request, without a click among the candidates has no NDCG. The built-in metric of three rankers counts it
# as a perfect 1.0 and takes it into the mean:
# - LightGBM 4.7.0: `ndcg` and `map`;
# - XGBoost 3.2.0 (CPU): `ndcg` and `map` (a metric called `ndcg-` or `map-` counts 0);
# - CatBoost 1.2.10: `NDCG` and `RecallAt`, while its `MAP` counts 0.
# scikit-learn's `ndcg_score`, and evaluators such as ranx, count 0. Logs of impressions are mostly of this kind: where
# one request in ten has a click, a model that ranks at random has an NDCG@10 of 0.92, and no model can get below 0.9,
# so that real differences look like noise; a week with fewer clicks looks like a better model. There is no warning.
# Remedy: leave out users without a click before training and evaluation; they do not train a ranker either.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    lightgbm==4.7.0 xgboost-cpu==3.2.0 catboost==1.2.10 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1 pandas==2.3.3
cat >"$folder/show.py" <<'PYTHON'
import sys

import catboost
import lightgbm
import numpy as np
import sklearn
import xgboost
from catboost.utils import eval_metric
from sklearn.metrics import ndcg_score

USERS, WITH_A_CLICK, CANDIDATES = 500, 50, 20
GROUPS = [CANDIDATES] * USERS
random = np.random.default_rng(0)
scores = random.permuted(np.tile(np.arange(float(CANDIDATES)), (USERS, 1)), axis=1)  # no two of a user's are equal
clicks = np.zeros((USERS, CANDIDATES))
clicks[:WITH_A_CLICK, 0] = 1
users = np.repeat(np.arange(USERS), CANDIDATES)
values = {}

data = lightgbm.Dataset(np.zeros((scores.size, 1)), clicks.ravel(), group=GROUPS, init_score=scores.ravel())
curve = {}
options = {"objective": "lambdarank", "metric": ["ndcg", "map"], "eval_at": [10], "num_threads": 1, "verbose": -1}
lightgbm.train(options, data, 1, valid_sets=[data], callbacks=[lightgbm.record_evaluation(curve)])
for metric, by_round in curve["training"].items():
    values[f"LightGBM {lightgbm.__version__}", metric] = by_round[0]

data = xgboost.DMatrix(np.zeros((scores.size, 1)), clicks.ravel(), group=GROUPS, base_margin=scores.ravel())
curve = {}
metrics = ["ndcg@10", "map@10", "ndcg@10-", "map@10-"]
options = {"objective": "rank:ndcg", "eval_metric": metrics, "nthread": 1, "eta": 0}
xgboost.train(options, data, 1, evals=[(data, "it")], evals_result=curve, verbose_eval=False)
for metric, by_round in curve["it"].items():
    values[f"XGBoost {xgboost.__version__}", metric] = by_round[0]

for metric in ("NDCG:top=10", "RecallAt:top=10", "MAP:top=10"):
    by_round = eval_metric(clicks.ravel(), scores.ravel(), metric, group_id=users)
    values[f"CatBoost {catboost.__version__}", metric] = by_round[0]
values[f"scikit-learn {sklearn.__version__}", "ndcg_score"] = ndcg_score(clicks, scores, k=10)

for (library, metric), value in values.items():
    print(f"{library}, scores at random, a click in one of ten requests: {metric} {value:.3f}")
high = {metric: value > 0.9 for (_, metric), value in values.items()}
counted_0 = {"ndcg@10-", "map@10-", "MAP:top=10", "ndcg_score"}
sys.exit(0 if all(high[metric] != (metric in counted_0) for metric in high) else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
