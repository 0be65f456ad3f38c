"""Write user_metrics.json: random answers and test items, with what RecTools and ranx make of them.

Neither installs beside TensorFlow 2.12; in an environment of their own:

    python -m venv pinning && pinning/bin/pip install rectools ranx
    pinning/bin/python tests/models/evaluation/pin_user_metrics.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ranx
from rectools import Columns, metrics

KS = (1, 3, 10, 20)
CASES, USERS, ITEMS = 6, 8, 30
REFERENCE = {
    "recall": metrics.Recall,
    "precision": metrics.Precision,
    "hit_rate": metrics.HitRate,
    "map": metrics.MAP,
    "ndcg": lambda k: metrics.NDCG(k, divide_by_achievable=True),
}
"""By our name."""


def case(random: np.random.Generator) -> dict[str, Any]:
    """Return lists of 1 to 25 of 30 items, and 1 to 15 test items, for eight users."""
    answers = [random.permutation(ITEMS)[: random.integers(1, 26)].tolist() for _ in range(USERS)]
    test_items = [sorted(random.permutation(ITEMS)[: random.integers(1, 16)].tolist()) for _ in range(USERS)]
    return {"answers": answers, "test_items": test_items, "values": {**rectools(answers, test_items)}}


def rectools(answers: list[list[int]], test_items: list[list[int]]) -> dict[str, float]:
    """Return RecTools' values; check that ranx has the same."""
    reco = pd.DataFrame(
        [(user, item, rank) for user, items in enumerate(answers) for rank, item in enumerate(items, 1)],
        columns=[Columns.User, Columns.Item, Columns.Rank],
    )
    interactions = pd.DataFrame(
        [(user, item) for user, items in enumerate(test_items) for item in items], columns=[Columns.User, Columns.Item]
    )
    qrels = ranx.Qrels({str(user): {str(item): 1 for item in items} for user, items in enumerate(test_items)})
    run = ranx.Run({str(user): {str(i): 1 / n for n, i in enumerate(items, 1)} for user, items in enumerate(answers)})
    values = {}
    for k in KS:
        for name, metric in REFERENCE.items():
            value = float(metric(k).calc(reco, interactions))
            assert np.isclose(value, ranx.evaluate(qrels, run, f"{name}@{k}")), (name, k)
            values[f"{name}@{k}"] = value
    return values


if __name__ == "__main__":
    random = np.random.default_rng(16)
    made_by = {name: version(name) for name in ("rectools", "ranx")}
    cases = [case(random) for _ in range(CASES)]
    path = Path(__file__).with_name("user_metrics.json")
    path.write_text(json.dumps({"made_by": made_by, "ks": KS, "cases": cases}) + "\n", encoding="utf-8")
