"""Retrieve, then rank: where the targets stand in what is served."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.baselines.task import Task
from models.metrics import KS, Float32Array, Int64Array, Ranking
from models.ranking.candidates import Retrieval
from models.ranking.export import PARAMETERS, ExportedRanker
from models.ranking.training import exported_towers

Scores = Callable[[slice, npt.NDArray[np.int32]], Float32Array]
"""The ranker's scores of candidates, int32 `[n, m]`, for a slice of the rows; float32 `[n, m]`."""
_ROWS_AT_ONCE = 256


def reordered(scores: Scores, candidates: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return every row's candidates by the ranker's score, equal ones in the order that they were retrieved in.

    A row with a score that is not finite gets no answer, as when it is served: it is -1 throughout.
    """
    ranked = np.empty_like(candidates)
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        items = candidates[rows]
        score, present = scores(rows, items), items >= 0
        order = np.argsort(-np.where(present, score, -np.inf), axis=1, kind="stable")
        refused = (present & ~np.isfinite(score)).any(axis=1, keepdims=True)
        ranked[rows] = np.where(refused, -1, np.take_along_axis(items, order, axis=1))
    return ranked


def rank_again(
    query: Mapping[str, np.ndarray], task: Task, retrieved: Mapping[str, Ranking], towers_dir: Path, ranker_dir: Path
) -> dict[str, Ranking]:
    """Return where the targets of a task's rows stand in what is served, for what the towers retrieve for them among
    all items (`all`) and among those that their user has not seen (`unseen`). `query` has the features of each row."""
    ranker, count = ExportedRanker(ranker_dir), json.loads((ranker_dir / PARAMETERS).read_text())["candidates"]
    towers = exported_towers(towers_dir)
    retrieval = Retrieval(towers.encode(dict(query)), towers.items)

    def scores(rows: slice, items: npt.NDArray[np.int32]) -> Float32Array:
        return ranker({name: values[rows] for name, values in query.items()}, retrieval.queries[rows], items)

    answers = {
        name: reordered(scores, retrieval.candidates(count, task.users, task.seen if name == "unseen" else None))
        for name in retrieved
    }
    return {name: served(retrieved[name], answers[name], task.targets) for name in retrieved}


def served(retrieved: Ranking, answers: npt.NDArray[np.int32], targets: Int64Array) -> Ranking:
    """Return where the targets stand if the first answers of every row are these, and the others as retrieved.

    `answers` int32 `[rows, m]`, -1 where there are fewer; a row without any has no answer at all.
    """
    at = answers == targets[:, None]
    others = np.where((answers >= 0).any(axis=1), retrieved.ranks, retrieved.shown.shape[1])
    ranks = np.where(at.any(axis=1), at.argmax(axis=1), others).astype(np.int64)
    shown = retrieved.shown.copy()
    for mark, k in zip(shown, KS, strict=True):
        if k <= answers.shape[1]:
            mark[:] = False
            mark[answers[:, :k][answers[:, :k] >= 0]] = True
    return Ranking(ranks, retrieved.users, shown)


def ndcg(answers: npt.NDArray[np.int32], targets: Int64Array, k: int = 10) -> float:
    """Return the mean over rows of 1 / log2(rank + 2), 0 where the target is not among the first k."""
    row, rank = np.nonzero(answers[:, :k] == targets[:, None])
    return float((1.0 / np.log2(rank + 2.0)).sum() / max(len(targets), 1)) if len(row) else 0.0
