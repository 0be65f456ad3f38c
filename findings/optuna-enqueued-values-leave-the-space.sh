#!/usr/bin/env bash
# Optuna 4.6.0, `study.enqueue_trial({...})`, with which a study starts from known good settings: what is enqueued is not
# checked against the search space.
# - A float or integer outside of its range, or off its step, is used as it is: `suggest_float("lr", 1e-4, 1e-1)` returns
#   5.0. Python warns; Optuna's own log is silent. The trial counts, and may be `best_params`, which then lie outside of
#   the space that was declared.
# - A number with a fraction becomes an integer by cutting it off: 2.7 layers are 2.
# - A misspelt name is ignored without a word, and the parameter that was meant is drawn at random.
# - Only an unknown category is an error, and that ends `optimize`.
# Remedy: compare the names, and run with `warnings.simplefilter("error")` around `optimize`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check optuna==4.6.0
cat >"$folder/show.py" <<'PYTHON'
import logging
import sys
import warnings

import optuna


class Kept(logging.Handler):
    def emit(self, record):
        logged.append(record)


logged = []
optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("optuna").addHandler(Kept())
START = {"lr": 5.0, "layers": 2.7, "units": 100, "temprature": 0.1}


def objective(trial):
    trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    trial.suggest_int("layers", 1, 3)
    trial.suggest_int("units", 64, 256, step=64)
    trial.suggest_float("temperature", 0.05, 1.0)
    return float(trial.number)  # minimised: what was enqueued is the best


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.enqueue_trial(START)
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    study.optimize(objective, n_trials=20)
best = study.best_params
told = sorted({word for warning in warned for word in (*START, "temperature") if f"'{word}'" in str(warning.message)})
print(f"optuna {optuna.__version__}, enqueued {START}")
print(f"  best_params of 20 trials: {best}")
print(f"  Python warned of {', '.join(told)}; lines in Optuna's log: {len(logged)}")
inside = all(trial.params["lr"] <= 0.1 for trial in study.trials[1:])
print(f"  the other trials stay in the space: {inside}")


def categorical(trial):
    return len(trial.suggest_categorical("pooling", ["mean", "last"]))


study = optuna.create_study()
study.enqueue_trial({"pooling": "max"})
optuna.logging.set_verbosity(optuna.logging.CRITICAL)
try:
    study.optimize(categorical, n_trials=1)
    category = "used"
except ValueError:
    category = "ValueError"
print(f"  an unknown category: {category}")
same = (best["lr"], best["layers"], best["units"]) == (5.0, 2, 100) and best["temperature"] != 0.1
silent = "temprature" not in told and {"lr", "layers", "units"} == set(told) and not logged and inside
sys.exit(0 if same and silent and category == "ValueError" else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
