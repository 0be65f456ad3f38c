"""The figures per user are those of what `retrieval recommend --timestamp last` answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ensemble.batch.everybody import Asking, Everybody
from models.evaluation.config import Evaluate
from models.evaluation.stage import evaluate
from retrieval.recipes.recipe import parse_recipe
from retrieval.runs.reference import fitted_queries
from tests.exported import RECIPE, TOP_K, Exported, exported
from workflows.features.stage import load

__all__ = ["exported"]


def test_evaluation_asks_each_user_as_recommend_does_at_the_time_of_their_last_row(exported: Exported) -> None:
    run = exported.path.parent
    recipe, data = parse_recipe(RECIPE, run / "recipe.toml"), load(run / "features")
    fitted = fitted_queries(recipe, run / "features")
    settings = Evaluate(ks=(5, TOP_K))
    metrics = evaluate(run / "features", run / "towers", "random", transform=fitted.transform, settings=settings)
    figures = metrics["per_user"]["unseen"]

    everybody = Everybody.load(run / "release")
    relevant = data.test.interactions.groupby("user_id")["item_index"].agg(set)
    answers = everybody.answer(np.array(relevant.index, dtype=object), Asking(top_k=TOP_K, time="last"))
    hits = [[item in theirs for item in row] for row, theirs in zip(answers.item_index, relevant, strict=True)]
    counts = relevant.map(len).to_numpy()
    assert metrics["per_user"]["users"] == len(relevant)
    assert pd.Series(counts).max() > 1, "users have several rows, each at its own time"
    for k in (5, TOP_K):
        of_user = np.array(hits)[:, :k].sum(axis=1)
        assert figures[f"recall@{k}"] == pytest.approx((of_user / counts).mean())
        assert figures[f"hit_rate@{k}"] == pytest.approx((of_user > 0).mean())
