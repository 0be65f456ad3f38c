"""Stage evaluate: the exported towers on the test part, beside popularity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.baselines.popularity import Popularity
from models.baselines.task import Task, test_task
from models.config import Ignored, Rating
from models.data import distinct_queries, join
from models.evaluation.tasks import measure as measure_tasks
from models.metrics import Float32Array, Int64Array, Ranking, rank_targets
from models.towers.onnx import run_tower
from workflows.features import stage as features
from workflows.features.stage import FeatureSet
from workflows.progress import Progress, silent

EVERY_ROW = Ignored()
"""Is a positive, whatever its rating."""
GROUP_FIGURES = ("recall@10", "recall@100", "ndcg@10")
_HISTORIES = (1, 5, 20, 100)
"""Users are told apart by how many items they had: from one of these numbers up to the next."""

Rankings = dict[str, Ranking]


class Measured(NamedTuple):
    """Test rows, and where the towers and popularity rank their targets."""

    task: Task
    towers: Rankings
    popularity: Rankings


def evaluate(
    features_dir: Path,
    towers_dir: Path,
    protocol: str,
    rating: Rating = EVERY_ROW,
    transform: Callable[[pd.DataFrame], dict[str, np.ndarray]] | None = None,
    ranker_dir: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure the towers by exact search over the whole catalogue, on the rows that the split asks for.

    `transform` makes features of raw query columns, which playlists that are to be continued need. With a ranker what
    is measured is what is served: retrieved, then ranked.

    Returns
    -------
    dict
        `rows`, `items`, `users`, `protocol`; `all` (every item competes) and `unseen` (the user's training and
        validation items are taken out), each with the metrics of `models.metrics.Ranking`; `popularity` with the same
        two of the peer of that name, which learns from the rows that `rating` makes positives; and `groups`, by name,
        for kinds of test rows, whether the split asks for them or not: `rows`, `users`, and GROUP_FIGURES among
        unseen items, of the towers (`unseen`) and of popularity. Of held-out playlists also `continuation`, see
        `playlists.measure`; of towers that learned more than retrieval `tasks`, see `models.evaluation.tasks`.
    """
    data = features.load(features_dir)
    found = measure(data, towers_dir, rating, progress)
    served = _served(data, found, towers_dir, ranker_dir)
    whole = data._replace(asked="all")
    every = found._replace(towers=served)
    if data.asked == "known":
        every = measure(whole, towers_dir, rating, progress)
        every = every._replace(towers=_served(whole, every, towers_dir, ranker_dir))
    return {
        "rows": len(found.task.targets),
        "items": len(data.catalogue),
        "users": len(np.unique(found.task.users)),
        "protocol": protocol,
        **{name: ranking.metrics() for name, ranking in served.items()},
        **({"retrieval": {name: one.metrics() for name, one in found.towers.items()}} if ranker_dir else {}),
        "popularity": {name: ranking.metrics() for name, ranking in found.popularity.items()},
        "groups": {name: _figures(every, rows) for name, rows in groups(every.task) if rows.any()},
        **measure_tasks(data, towers_dir, *found),
        **_continuation(data, towers_dir, transform),
    }


def _continuation(
    data: FeatureSet, towers_dir: Path, transform: Callable[[pd.DataFrame], dict[str, np.ndarray]] | None
) -> dict[str, Any]:
    if data.asked != "continued" or transform is None:
        return {}
    from models.evaluation import playlists as continuation  # and with it the source, which nobody else needs

    return {"continuation": continuation.measure(data, data.test, towers_dir, transform)}


def _served(data: FeatureSet, found: Measured, towers_dir: Path, ranker_dir: Path | None) -> Rankings:
    """Return where the targets stand in what is served: as the towers have them, or a ranker after them."""
    if ranker_dir is None:
        return found.towers
    from models.ranking.evaluation import rank_again

    return rank_again(data, found.task, found.towers, towers_dir, ranker_dir)


def measure(data: FeatureSet, towers_dir: Path, rating: Rating, progress: Progress = silent) -> Measured:
    """Rank the targets of the rows asked for."""
    task = test_task(data, rating)
    towers = rank_towers(data, task, towers_dir, progress)
    return Measured(task, towers, task.rank(Popularity().fit(task.interactions)))


def rank_towers(data: FeatureSet, task: Task, towers_dir: Path, progress: Progress = silent) -> Rankings:
    """Rank the targets of the test rows asked for by the exported towers, each distinct query once."""
    score, query = tower_scores(data, towers_dir)
    items = task.interactions.shape[1]
    return rank_targets(score, task.targets, task.users, task.seen, items, query=query, progress=progress)


def tower_scores(data: FeatureSet, towers_dir: Path) -> tuple[Callable[[slice], Float32Array], Int64Array]:
    """Return what scores a slice of the queries against the catalogue, as the exported towers do, float32 `[n, items]`;
    and for each test row asked for, its query, int64 `[rows]`."""
    known = join([data.train, data.valid]).interactions
    vectors = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    asked, query = distinct_queries(data, data.test, known)
    vectors_of_queries = run_tower(towers_dir / "query.onnx", asked.query)
    return lambda queries: vectors_of_queries[queries] @ vectors.T, query


def groups(task: Task) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield kinds of rows by name, bool `[rows]`: who and what was learned from, and how much of whom."""
    had = np.diff(task.seen.offsets)[task.users]
    known_item = np.isin(task.targets, task.seen.items)
    yield "all rows", np.ones(len(had), bool)
    yield "user and item known", (had > 0) & known_item
    yield "user unknown", had == 0
    yield "item unknown", ~known_item
    for low, high in zip(_HISTORIES, (*_HISTORIES[1:], None), strict=True):
        name = f"users of {low} items or more" if high is None else f"users of {low} to {high - 1} items"
        yield name, (had >= low) & (high is None or had < high)


def _figures(found: Measured, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    def means(rankings: Rankings) -> dict[str, float]:
        return {name: float(rankings["unseen"].row_values(name)[rows].mean()) for name in GROUP_FIGURES}

    users = len(np.unique(found.task.users[rows]))
    sides = {"unseen": means(found.towers), "popularity": means(found.popularity)}
    return {"rows": int(rows.sum()), "users": users, **sides}
