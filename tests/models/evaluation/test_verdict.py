"""Every run ends with a verdict that says how sure it is, and what to try where the towers are not ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.baselines.comparison import OURS, summarise
from models.config import Model, Train
from models.evaluation.verdict import Trained, verdict
from models.metrics import Ranking

ROWS, ITEMS = 2000, 5000


def comparison(found_by_us: float, found_by_ease: float) -> dict[str, object]:
    """Two models that find these shares of the rows' items at the first place, and the others not at all."""
    random, users = np.random.default_rng(0), np.arange(ROWS)

    def rankings(share: float) -> dict[str, Ranking]:
        ranks = np.where(random.random(ROWS) < share, 0, ITEMS)
        return dict.fromkeys(("all", "unseen"), Ranking.of_ranks(ranks, users, ITEMS))

    measured = {OURS: ({}, rankings(found_by_us)), "EASE": ({"settings": {"l2": 200.0}}, rankings(found_by_ease))}
    return {"models": summarise(measured, users, seed=1), "items": ITEMS, "resamples": 500}


def trained(**changes: object) -> Trained:
    facts = {"epochs": 12, "train_rows": 10_000, "has_history": True, "dated": True, **changes}
    return Trained(Model(temperature=0.2), Train(epochs=30, batch_size=1024), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome", "words"),
    [
        (0.5, 0.3, "ahead", "ahead of EASE by ."),
        (0.3, 0.5, "behind", "EASE is better on these rows by ."),
        (0.4, 0.4, "level", "level with EASE within -."),
    ],
)
def test_the_verdict_is_what_the_bounds_of_the_paired_difference_say(
    ours: float, theirs: float, outcome: str, words: str
) -> None:
    result = verdict(comparison(ours, theirs), trained())
    difference, low, high = result["lead"]["recall@10"]
    assert low < difference < high
    assert result["outcome"] == outcome
    assert result["text"].startswith(words)
    assert f"{result['ours']:.3f}"[1:] in result["text"]
    assert (outcome == "ahead") == (not result["try"])


def test_advice_is_of_what_was_trained() -> None:
    behind = comparison(0.3, 0.5)
    advice = "; ".join(verdict(behind, trained(has_history=False))["try"])
    for part in ("history = ", "120 steps", "model.temperature", '{ kind = "ease", l2 = 200 }'):
        assert part in advice
    advice = "; ".join(verdict(behind, trained(has_history=False, dated=False, epochs=30, train_rows=10**6))["try"])
    assert "history" not in advice
    assert "steps" not in advice
    assert "still rising after 30 epochs" in advice


@pytest.mark.parametrize(("knn", "told"), [(0.2, True), (0.1, False)])
def test_the_verdict_says_where_validation_rows_prefer_another_simple_model(knn: float, told: bool) -> None:
    compared = comparison(0.5, 0.3)
    models: list[dict[str, Any]] = compared["models"]  # type: ignore[assignment]
    models[1]["searched"] = {"tried": [{"l2": 200.0, "recall@10": 0.05}, {"l2": 500.0, "recall@10": 0.15}]}
    searched = {"tried": [{"neighbours": 20, "recall@10": knn}]}
    models.append(
        {**models[1], "name": "item KNN", "unseen": {"recall@10": 0.25, "ndcg@10": 0.2}, "searched": searched}
    )
    text = verdict(compared, trained())["text"]
    assert ("Validation rows prefer item KNN to EASE (.200 against .150; here .250 against ." in text) == told
