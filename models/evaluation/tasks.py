"""How well the other tasks were learned: RMSE of ratings, recall of each kind of event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.baselines.task import Task
from models.data import known_rows, queries
from models.metrics import Float32Array, Products, Ranking, rank_targets
from models.towers.onnx import run_tower
from models.towers.stored_heads import StoredHeads
from workflows.columns import Columns
from workflows.features.stage import FeatureSet

FIGURES = ("recall@10", "recall@100", "ndcg@10")
ITEM_DAMPING, USER_DAMPING = 25.0, 10.0
"""Of the bias predictor, as in Koren 2010."""

Rankings = Mapping[str, Ranking]


def measure(data: FeatureSet, towers_dir: Path, task: Task, towers: Rankings, popularity: Rankings) -> dict[str, Any]:
    """Measure the heads on the test rows asked for, which `task` and the rankings are of.

    Returns
    -------
    dict
        Empty where the towers learned retrieval alone. Else `tasks` with
        `rating`: `rows`, and `rmse` and `mae`, in the ratings' unit, of the `head`, of the `biases` of users and items
        and of the rating's `mean`;
        `events`: by kind `rows`, and FIGURES among `all` and `unseen` items of the query vector that is `served`, of
        the kind's `own` head if it has one, and of `popularity`; and `served`, the kind;
        `weights`: those of the terms, where they were learned.
    """
    heads = StoredHeads.read(towers_dir)
    if heads is None:
        return {}
    known = known_rows(data)
    query_rows = queries(data, data.test, known)
    vectors = run_tower(towers_dir / "query.onnx", query_rows.query)
    items = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    measured: dict[str, Any] = {}
    if heads.rates:
        predicted = heads.rating(vectors, items[task.targets])
        measured["rating"] = _ratings(predicted, known, query_rows.interactions)
    if heads.kinds:
        measured["served"] = heads.served
        kinds = query_rows.interactions[Columns.Event].astype(str).to_numpy()
        measured["events"] = {
            kind: {
                "rows": int(rows.sum()),
                "served": _means(towers, rows),
                **({"own": _own(heads, kind, vectors, items, task, rows)} if heads.has_own(kind) else {}),
                "popularity": _means(popularity, rows),
            }
            for kind in heads.kinds
            if (rows := kinds == kind).any()
        }
    return {"tasks": {**measured, **({"weights": weights} if (weights := heads.weights()) else {})}}


def _ratings(predicted: Float32Array, known: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    truth = rows[Columns.Rating].to_numpy(np.float64)
    mean = np.full(len(truth), known[Columns.Rating].mean())
    sides: dict[str, npt.NDArray[Any]] = {"head": predicted, "biases": biases(known, rows), "mean": mean}
    return {"rows": len(truth), **{name: errors(side, truth) for name, side in sides.items()}}


def errors(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, float]:
    """Return root mean squared error and mean absolute error of ratings, `[n]`.

    A prediction that is not finite is as far off as the lowest rating is from the highest.
    """
    off = predicted.astype(np.float64) - truth
    off = np.where(np.isfinite(off), off, np.ptp(truth))
    return {"rmse": float(np.sqrt(np.mean(off**2))), "mae": float(np.abs(off).mean())}


def biases(known: pd.DataFrame, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return what the mean, the item's deviation from it and then the user's predict, float64 `[rows of asked]`.

    Each deviation is the sum over its rows divided by their number plus a damping (Koren, "Factor in the Neighbors",
    2010).
    """
    mean = known[Columns.Rating].mean()
    off = known[Columns.Rating] - mean
    of_item = _damped(off, known[Columns.ItemIndex], ITEM_DAMPING)
    off = off - known[Columns.ItemIndex].map(of_item)
    of_user = _damped(off, known[Columns.User], USER_DAMPING)
    predicted = mean + rows[Columns.ItemIndex].map(of_item).fillna(0) + rows[Columns.User].map(of_user).fillna(0)
    return predicted.to_numpy(np.float64)


def _damped(off: pd.Series, by: pd.Series, damping: float) -> pd.Series:
    groups = off.groupby(by)
    return groups.sum() / (groups.count() + damping)


def _means(rankings: Rankings, rows: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    return {
        side: {name: float(ranking.row_values(name)[rows].mean()) for name in FIGURES}
        for side, ranking in rankings.items()
    }


def _own(
    heads: StoredHeads,
    kind: str,
    vectors: Float32Array,
    items: Float32Array,
    task: Task,
    rows: npt.NDArray[np.bool_],
) -> dict[str, dict[str, float]]:
    """Rank the targets of a kind's rows by the query vectors of its own head."""
    head_vectors = heads.asked(vectors[rows], kind)
    truth = task.targets[rows], task.users[rows], task.seen, len(items)
    ranked = rank_targets(Products(head_vectors, items), *truth, coverage=False)
    return _means(ranked, np.ones(len(head_vectors), bool))
