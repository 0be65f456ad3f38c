"""The metrics of papers, against the values that RecTools and ranx give random cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.evaluation.per_user import user_metrics

PINNED = json.loads(Path(__file__).with_name("user_metrics.json").read_text(encoding="utf-8"))
ITEMS = 30


@pytest.mark.parametrize("case", PINNED["cases"])
def test_metrics_per_user_are_those_of_rectools_and_ranx(case: dict[str, Any]) -> None:
    pairs = [
        (answers.index(item) if item in answers else ITEMS, user)
        for user, (answers, test_items) in enumerate(zip(case["answers"], case["test_items"], strict=True))
        for item in test_items
    ]
    shuffled = np.random.default_rng(0).permutation(np.array(pairs))
    metrics = user_metrics(shuffled[:, 0], 7 * shuffled[:, 1] + 3, ITEMS, PINNED["ks"])
    assert metrics == pytest.approx(case["values"])
