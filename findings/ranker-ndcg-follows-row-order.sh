#!/usr/bin/env bash
# Rankers measure NDCG on equal scores each in another way:
# - LightGBM 4.7.0 and XGBoost 3.2.0 (CPU) take rows with equal scores in the order of the table;
# - CatBoost 1.2.10 puts the rows without a click first;
# - scikit-learn 1.9.1 takes the mean over all orders.
# So a constant model has an NDCG@10 of 1.0, 0.0 or 0.23. The first tree of a ranker has few leaves, so that many of a
# user's candidates are equal; and tables of candidates are often written with the clicked item first and sampled
# negatives after it. On such a validation set the curve starts with its highest value, and early stopping keeps a
# single tree. With the same rows in random order it keeps many, and the NDCG that is measured there is 0.49 instead of
# the single tree's 0.32. There is no warning.
# Remedy: shuffle the rows of each user in training and validation sets.
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

USERS, CANDIDATES, FEATURES = 300, 20, 10
GROUPS = [CANDIDATES] * USERS


def clicked_first(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return candidates of each user, the one with the highest noisy score first and clicked."""
    random = np.random.default_rng(seed)
    features = random.integers(0, 2, (USERS, CANDIDATES, FEATURES)).astype(float)
    liking = features.sum(axis=2) + 1.5 * random.gumbel(size=(USERS, CANDIDATES))
    features = np.take_along_axis(features, np.argsort(-liking, axis=1)[:, :, np.newaxis], axis=1)
    clicks = np.zeros((USERS, CANDIDATES))
    clicks[:, 0] = 1
    return features, clicks


def shuffled(features: np.ndarray, clicks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permuted(np.tile(np.arange(CANDIDATES), (USERS, 1)), axis=1)
    return np.take_along_axis(features, order[:, :, np.newaxis], axis=1), np.take_along_axis(clicks, order, axis=1)


def by_lightgbm(training, validation, rounds: int) -> tuple[list[float], int]:
    sets = [lightgbm.Dataset(x.reshape(-1, x.shape[2]), y.ravel(), group=GROUPS) for x, y in (training, validation)]
    sets[1].set_reference(sets[0])
    options = {"objective": "lambdarank", "metric": "ndcg", "eval_at": [10], "num_leaves": 4, "learning_rate": 0.1}
    curve = {}
    callbacks = [lightgbm.record_evaluation(curve), lightgbm.early_stopping(10, verbose=False)]
    quiet = {"num_threads": 1, "verbose": -1}
    model = lightgbm.train(options | quiet, sets[0], rounds, valid_sets=[sets[1]], callbacks=callbacks)
    return list(curve["valid_0"]["ndcg@10"]), model.best_iteration


def by_xgboost(features, clicks) -> float:
    data = xgboost.DMatrix(features.reshape(-1, features.shape[2]), clicks.ravel(), group=GROUPS)
    options = {"objective": "rank:ndcg", "eval_metric": "ndcg@10", "nthread": 1}
    curve = {}
    xgboost.train(options, data, 1, evals=[(data, "it")], evals_result=curve, verbose_eval=False)
    return curve["it"]["ndcg@10"][0]


features, clicks = clicked_first(1)
nothing = np.zeros((USERS, CANDIDATES, 1))
users = np.repeat(np.arange(USERS), CANDIDATES)
constant = {
    f"LightGBM {lightgbm.__version__}": by_lightgbm((nothing, clicks), (nothing, clicks), 1)[0][0],
    f"XGBoost {xgboost.__version__}": by_xgboost(nothing, clicks),
    f"CatBoost {catboost.__version__}": eval_metric(clicks.ravel(), nothing.ravel(), "NDCG:top=10", group_id=users)[0],
    f"scikit-learn {sklearn.__version__}": ndcg_score(clicks, nothing[:, :, 0], k=10),
}
for name, value in constant.items():
    print(f"{name}, a constant model, the clicked row first: NDCG@10 {value:.2f}")
training, validation = shuffled(features, clicks), clicked_first(2)
trees = {}
for name, rows in {"clicked first": validation, "shuffled": shuffled(*validation)}.items():
    curve, trees[name] = by_lightgbm(training, rows, 100)
    ends = f"{curve[0]:.2f} to {curve[-1]:.2f}"
    print(f"LightGBM, validation rows {name}: NDCG@10 of the trees {ends}, {trees[name]} kept")
same = np.allclose(list(constant.values()), [1, 1, 0, 0.227], atol=0.01)
sys.exit(0 if same and trees["clicked first"] == 1 and trees["shuffled"] > 5 else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
