"""Stage evaluate: the exported towers on the test part, beside popularity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.baselines.bootstrap import RESAMPLES, resampled_means
from models.baselines.comparison import OURS, read_peers, summarise
from models.baselines.popularity import Popularity
from models.baselines.task import Task, test_task
from models.config import Ignored, Rating
from models.data import asked, distinct_queries, known_rows, load_tested, queries
from models.evaluation.asked_once import Pairs, Transform, one_query_per_user
from models.evaluation.config import Evaluate
from models.evaluation.per_user import user_metrics
from models.evaluation.tasks import measure as measure_tasks
from models.metrics import Float32Array, Int64Array, Products, Ranking, rank_targets
from models.towers.onnx import run_tower
from workflows.features.stage import FeatureSet, Part, Sample
from workflows.progress import Progress, silent

EVERYTHING = Evaluate()
EVERY_ROW = Ignored()
"""Is a positive, whatever its rating."""
GROUP_FIGURES = ERRORS_OF = ("recall@10", "recall@100", "ndcg@10")
_HISTORIES = (1, 5, 20, 100)
"""Users are told apart by how many items they had: from one of these numbers up to the next."""

Rankings = Mapping[str, Ranking]


class Beside(NamedTuple):
    """Directories of what a run may have beside towers."""

    ranker: Path | None = None
    peers: Path | None = None
    """What `models.baselines.comparison.write_peers` wrote."""


ALONE = Beside()
_SEED = 0
"""Of the bootstrap."""


class Measured(NamedTuple):
    """Test rows, and where the towers and popularity rank their targets."""

    task: Task
    towers: Rankings
    popularity: Rankings
    query: Int64Array
    """Int64 `[rows]`: which query each row is."""


def evaluate(
    features_dir: Path,
    towers_dir: Path,
    protocol: str,
    rating: Rating = EVERY_ROW,
    transform: Transform | None = None,
    beside: Beside = ALONE,
    settings: Evaluate = EVERYTHING,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure the towers by exact search over the whole catalogue, on the rows that the split asks for.

    With a ranker what is measured is what is served: retrieved, then ranked.

    Parameters
    ----------
    features_dir, towers_dir
        What the stages features and train wrote.
    protocol
        The split in words, as it is reported.
    rating
        Which rows are positives, for popularity and the peers.
    transform
        Makes features of raw query columns: needed for playlists that are to be continued, and for users whose rows are
        several queries, to be asked once.
    beside
        The ranker, if there is one, and the peers to compare with.
    settings
        How many rows are asked for, and the cut-offs of the figures per user.
    progress
        Is called with a line for each step.

    Returns
    -------
    dict
        `rows`, `items`, `users`, `protocol`; of drawn rows `sample`, see `sampling`; `all` (every item competes) and
        `unseen` (the user's training and validation items are taken out), each with the metrics of
        `models.metrics.Ranking`; `popularity` with the same two of the peer of that name, which learns from the rows
        that `rating` makes positives; and `groups`, by name, for kinds of test rows, whether the split asks for them or
        not: `rows`, `users`, and GROUP_FIGURES among unseen items, of the towers (`unseen`) and of popularity.
        `per_user`: `users`, `ks`, and `all`, `unseen` and `popularity` with the metrics of
        `models.evaluation.per_user`, where each user is asked once. `comparison`: `rows`, `users`, `items`,
        `resamples`, and `models`, what is served, popularity and the peers, see
        `models.baselines.comparison.summarise`; the peers also have `per_user`. Of held-out playlists also
        `continuation`, see `playlists.measure`; of towers that learned more than retrieval `tasks`, see
        `models.evaluation.tasks`.
    """
    data = load_tested(features_dir)
    if settings.rows is not None:
        data = data._replace(sample=Sample(settings.rows, settings.seed))
    measured = measure(data, towers_dir, rating, progress)
    ranker_dir = beside.ranker
    served = served_rows(data, measured, towers_dir, ranker_dir)
    whole = data._replace(asked="all")
    every = measured._replace(towers=served)
    if data.asked == "known":
        every = measure(whole, towers_dir, rating, progress)
        every = every._replace(towers=served_rows(whole, every, towers_dir, ranker_dir))
    return {
        "rows": len(measured.task.targets),
        "items": len(data.catalogue),
        "users": len(np.unique(measured.task.users)),
        "protocol": protocol,
        **sampling(data, measured.task, served),
        **{name: ranking.metrics() for name, ranking in served.items()},
        **({"retrieval": {name: ranking.metrics() for name, ranking in measured.towers.items()}} if ranker_dir else {}),
        "popularity": {name: ranking.metrics() for name, ranking in measured.popularity.items()},
        "groups": {name: _figures(every, rows) for name, rows in groups(every.task) if rows.any()},
        **_per_user(data, measured, served, (towers_dir, ranker_dir), transform, settings.ks, progress),
        "comparison": _compare(measured, served, beside.peers, settings.ks),
        **measure_tasks(data, towers_dir, *measured[:3]),
        **_continuation(data, towers_dir, transform),
    }


def _per_user(
    data: FeatureSet,
    measured: Measured,
    served: Rankings,
    where: tuple[Path, Path | None],
    transform: Transform | None,
    ks: Sequence[int],
    progress: Progress,
) -> dict[str, Any]:
    """Measure the answers to one query per user: that of the user's rows, or where they are several, one more."""
    pairs = Pairs.of(measured.task)
    users, items = np.unique(pairs.task.users), pairs.task.interactions.shape[1]
    if len(np.unique(measured.query)) == len(users):
        ours = {side: ranking.ranks[pairs.rows] for side, ranking in served.items()}
    elif transform is None or data.asked == "continued":
        return {}
    else:
        part = one_query_per_user(data, users, transform)
        query = np.searchsorted(users, pairs.task.users)
        ours = {side: ranking.ranks for side, ranking in _rank_once(pairs.task, part, query, *where, progress).items()}
    own = {side: user_metrics(ranks, pairs.task.users, items, ks) for side, ranks in ours.items()}
    popularity = _of_users(pairs, measured.popularity, ks)
    return {"per_user": {"users": len(users), "ks": list(ks), **own, "popularity": popularity}}


def _of_users(pairs: Pairs, rankings: Rankings, ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return the figures per user of what answers all rows of a user alike."""
    items = pairs.task.interactions.shape[1]
    return {
        side: user_metrics(ranking.ranks[pairs.rows], pairs.task.users, items, ks) for side, ranking in rankings.items()
    }


def _compare(measured: Measured, served: Rankings, peers_dir: Path | None, ks: Sequence[int]) -> dict[str, Any]:
    """Return what is served beside popularity and the peers, on the rows asked for."""
    peers, skipped = read_peers(peers_dir, measured.task) if peers_dir else ({}, [])
    facts: dict[str, Any] = {"settings": {}, "search_seconds": None, "fit_seconds": None}
    everybody = {OURS: (facts, served), "popularity": (facts, measured.popularity), **peers}
    models, pairs = summarise(everybody, measured.task.users, _SEED), Pairs.of(measured.task)
    for model in models[1:]:
        model["per_user"] = _of_users(pairs, everybody[model["name"]][1], ks)
    return {
        "rows": len(measured.task.targets),
        "users": len(np.unique(measured.task.users)),
        "items": measured.task.interactions.shape[1],
        "resamples": RESAMPLES,
        "models": models + skipped,
    }


def _rank_once(
    task: Task, part: Part, query: Int64Array, towers_dir: Path, ranker_dir: Path | None, progress: Progress
) -> Rankings:
    """Rank the targets of a task in what is served for the queries of `part`; `query` is each row's."""
    vectors, items = run_tower(towers_dir / "query.onnx", part.query), _item_vectors(towers_dir)
    truth = task.targets, task.users, task.seen, len(items)
    towers = rank_targets(Products(vectors, items), *truth, coverage=False, query=query, progress=progress)
    features = {name: values[query] for name, values in part.query.items()} if ranker_dir else {}
    return _served(features, task, towers, towers_dir, ranker_dir)


def _continuation(data: FeatureSet, towers_dir: Path, transform: Transform | None) -> dict[str, Any]:
    if data.asked != "continued" or transform is None:
        return {}
    from models.evaluation import playlists as continuation  # and with it the source, which nobody else needs

    return {"continuation": continuation.measure(data, data.test, towers_dir, transform)}


def served_rows(data: FeatureSet, measured: Measured, towers_dir: Path, ranker_dir: Path | None) -> Rankings:
    """Return where the targets of the measured rows stand in what is served: with a ranker, after it."""
    features = queries(data, data.test, known_rows(data)).query if ranker_dir else {}
    return _served(features, measured.task, measured.towers, towers_dir, ranker_dir)


def _served(
    features: Mapping[str, np.ndarray], task: Task, towers: Rankings, towers_dir: Path, ranker_dir: Path | None
) -> Rankings:
    """Return where the targets stand in what is served: as the towers have them, or a ranker after them, which takes
    the features of each row's query."""
    if ranker_dir is None:
        return towers
    from models.ranking.evaluation import rank_again

    return rank_again(features, task, towers, towers_dir, ranker_dir)


def measure(data: FeatureSet, towers_dir: Path, rating: Rating, progress: Progress = silent) -> Measured:
    """Rank the targets of the rows asked for, each distinct query once."""
    task = test_task(data, rating, dated=False)
    score, query = tower_scores(data, towers_dir)
    truth = task.targets, task.users, task.seen, task.interactions.shape[1]
    towers = rank_targets(score, *truth, query=query, progress=progress)
    return Measured(task, towers, task.rank(Popularity().fit(task.interactions)), query)


def _item_vectors(towers_dir: Path) -> Float32Array:
    vectors: Float32Array = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    return vectors


def tower_scores(data: FeatureSet, towers_dir: Path) -> tuple[Callable[[slice], Float32Array], Int64Array]:
    """Return what scores a slice of the queries against the catalogue, as the exported towers do, float32 `[n, items]`;
    and for each test row asked for, its query, int64 `[rows]`."""
    part, query = distinct_queries(data, data.test, known_rows(data))
    return Products(run_tower(towers_dir / "query.onnx", part.query), _item_vectors(towers_dir)), query


def sampling(data: FeatureSet, task: Task, served: Rankings) -> dict[str, Any]:
    """Return `sample` where fewer rows were drawn than the split asks for, else nothing.

    It has `rows`, `users` and the `seed`; `of_rows`, those that the split asks for; and `standard_error`, by `all` and
    `unseen`, of ERRORS_OF: the deviation over users resampled, times the root of the share of rows that were not drawn.
    """
    whole = len(asked(data._replace(sample=None), data.test, known_rows(data)).interactions)
    if data.sample is None or len(task.targets) == whole:
        return {}
    correction = np.sqrt(1 - len(task.targets) / whole)
    errors = {}
    for side, ranking in served.items():
        values = np.stack([ranking.row_values(name) for name in ERRORS_OF], axis=1)
        deviations = resampled_means(values, task.users, _SEED).std(axis=0) * correction
        errors[side] = dict(zip(ERRORS_OF, deviations.tolist(), strict=True))
    drawn = {"rows": len(task.targets), "users": len(np.unique(task.users)), "seed": data.sample.seed}
    return {"sample": {**drawn, "of_rows": whole, "standard_error": errors}}


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


def _figures(measured: Measured, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    def means(rankings: Rankings) -> dict[str, float]:
        return {name: float(rankings["unseen"].row_values(name)[rows].mean()) for name in GROUP_FIGURES}

    users = len(np.unique(measured.task.users[rows]))
    sides = {"unseen": means(measured.towers), "popularity": means(measured.popularity)}
    return {"rows": int(rows.sum()), "users": users, **sides}
