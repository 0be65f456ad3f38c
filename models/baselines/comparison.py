"""The two-tower and its peers, measured on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.baselines.baseline import Peer, Refused
from models.baselines.bootstrap import RESAMPLES, Float64Array, interval, resampled_means
from models.baselines.search import PEERS, Fitted, fit_best
from models.baselines.task import Task, test_task, validation_task
from models.config import Rating
from models.metrics import Int64Array, Ranking
from workflows.features import stage as features
from workflows.progress import Progress

OURS = "two-tower"
FIGURES = tuple((protocol, name) for protocol in ("all", "unseen") for name in ("recall@10", "recall@100", "ndcg@10"))
_LEAD = FIGURES.index(("unseen", "recall@10"))

Measured = dict[str, tuple[dict[str, Any], dict[str, Ranking]]]
"""By name: the facts about a model, and where it ranks the targets."""


def compare(
    features_dir: Path,
    towers_dir: Path,
    rating: Rating,
    train_seconds: float,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Fit the peers on the rows that `rating` makes positives, measure them and the exported towers.

    Returns
    -------
    dict
        `rows`, `users`, `items`, `resamples`; `models`, a list of our model and every peer. Each has `name`,
        `settings`, `search_seconds`, `fit_seconds`, `all` and `unseen` (metrics by name), `intervals` (the same
        shape, 95 % bounds) and `lead`: our unseen recall@10 less this model's, and its bounds over the same draws.
        One that could not be fitted has `skipped`, the reason, instead.
    """
    from models.evaluation.stage import rank_towers

    data = features.load(features_dir)
    task = test_task(data, rating)
    peers, skipped = fit_peers(PEERS, validation_task(data, rating), task, seed, progress)
    progress("measuring the towers")
    ours = rank_towers(data, task, towers_dir, progress)
    facts: dict[str, Any] = {"settings": {}, "search_seconds": None, "fit_seconds": train_seconds}
    measured: Measured = {OURS: (facts, ours)}
    measured.update((name, (_facts(fitted), fitted.rankings)) for name, fitted in peers.items())
    return {
        "rows": len(task.targets),
        "users": len(np.unique(task.users)),
        "items": task.interactions.shape[1],
        "resamples": RESAMPLES,
        "models": summarise(measured, task.users, seed) + skipped,
    }


def fit_peers(
    families: Mapping[str, Sequence[Peer]], valid: Task, test: Task, seed: int, progress: Progress
) -> tuple[dict[str, Fitted], list[dict[str, Any]]]:
    """Fit each family's best; return them by name, and those that were refused with the reason."""
    fitted, skipped = {}, []
    for name, candidates in families.items():
        progress(f"fitting {name}" + (f", {len(candidates)} settings" if len(candidates) > 1 else ""))
        try:
            fitted[name] = fit_best(candidates, valid, test, seed)
        except Refused as reason:
            progress(f"{name} is left out: {reason}")
            skipped.append({"name": name, "skipped": str(reason)})
    return fitted, skipped


def summarise(measured: Measured, users: Int64Array, seed: int) -> list[dict[str, Any]]:
    """Return every model's facts, figures and intervals, in order; `lead` is over the first."""
    values = np.concatenate([_row_values(rankings) for _, rankings in measured.values()], axis=1)
    width = len(FIGURES)
    figures, means = values.mean(axis=0), resampled_means(values, users, seed)
    rows = []
    for place, (name, (facts, _)) in enumerate(measured.items()):
        own = slice(place * width, (place + 1) * width)
        row = {"name": name, **facts, **_by_protocol(figures[own].tolist())}
        row["intervals"] = _by_protocol([interval(column) for column in means[:, own].T])
        behind = place * width + _LEAD
        row["lead"] = [float(figures[_LEAD] - figures[behind]), *interval(means[:, _LEAD] - means[:, behind])]
        rows.append(row)
    return rows


def _facts(fitted: Fitted) -> dict[str, Any]:
    return {
        "settings": fitted.peer.settings(),
        "search_seconds": fitted.search_seconds,
        "fit_seconds": fitted.fit_seconds,
    }


def _row_values(rankings: Mapping[str, Ranking]) -> Float64Array:
    """Return what every test row adds to each of FIGURES, float64 `[rows, figures]`."""
    return np.stack([rankings[protocol].row_values(name) for protocol, name in FIGURES], axis=1)


def _by_protocol(values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"all": {}, "unseen": {}}
    for (protocol, name), value in zip(FIGURES, values, strict=True):
        found[protocol][name] = value
    return found
