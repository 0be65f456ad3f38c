"""Simple models fitted to the rows of the two-tower, and how they compare on the same test rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.baselines.baseline import Refused
from models.baselines.bootstrap import Float64Array, interval, resampled_means
from models.baselines.search import CHOSEN_BY, FAMILIES, Family, Fitted, fit_best
from models.baselines.task import Task, test_task, validation_task
from models.config import Rating
from models.evaluation.config import Evaluate
from models.metrics import Int64Array, Ranking
from workflows.features import stage as features
from workflows.features.stage import Sample
from workflows.files import json_bytes
from workflows.progress import Progress

OURS = "two-tower"
FIGURES = tuple((protocol, name) for protocol in ("all", "unseen") for name in ("recall@10", "recall@100", "ndcg@10"))
LEADS = ("recall@10", "ndcg@10")
"""Of unseen items: by these models are compared."""
FACTS, RANKS = "peers.json", "ranks.npz"

Measured = Mapping[str, tuple[dict[str, Any], Mapping[str, Ranking]]]
"""By name: the facts about a model, and where it ranks the targets."""


def write_peers(
    features_dir: Path, out: Path, rating: Rating, settings: Evaluate, seed: int, progress: Progress
) -> None:
    """Fit the recipe's peers on the rows that `rating` makes positives; write what they are, and where they rank the
    targets of the test rows, to the directory `out`."""
    data = features.load(features_dir)
    drawn = data if settings.rows is None else data._replace(sample=Sample(settings.rows, settings.seed))
    families = {name: FAMILIES[name] for name in settings.peers if name != "popularity"}
    tasks = validation_task(data, rating), test_task(drawn, rating, dated=True)
    fitted, skipped = fit_peers(families, *tasks, settings.peers_seconds, seed, progress)
    facts = [{"name": name, **_facts(peer)} for name, peer in fitted.items()]
    ranks = {
        f"{number}.{side}": ranking.ranks.astype(np.int32)
        for number, peer in enumerate(fitted.values())
        for side, ranking in peer.rankings.items()
    }
    np.savez(out / RANKS, **ranks)
    (out / FACTS).write_bytes(json_bytes(facts + skipped, 2))


def read_peers(directory: Path, task: Task) -> tuple[Measured, list[dict[str, Any]]]:
    """Read what `write_peers` wrote: each peer's facts and rankings by name, and those that were skipped."""
    listed = json.loads((directory / FACTS).read_bytes())
    ranks, items = np.load(directory / RANKS), task.interactions.shape[1]
    measured: dict[str, tuple[dict[str, Any], Mapping[str, Ranking]]] = {}
    for number, facts in enumerate(peer for peer in listed if "skipped" not in peer):
        sides = {side: ranks[f"{number}.{side}"].astype(np.int64) for side in ("all", "unseen")}
        rankings = {side: Ranking.of_ranks(rows, task.users, items) for side, rows in sides.items()}
        measured[facts.pop("name")] = facts, rankings
    return measured, [peer for peer in listed if "skipped" in peer]


def fit_peers(
    families: Mapping[Any, Family], valid: Task, test: Task, seconds: float, seed: int, progress: Progress
) -> tuple[dict[str, Fitted], list[dict[str, Any]]]:
    """Fit each family's best; return them by title, and those that were refused with the reason."""
    fitted, skipped = {}, []
    for family in families.values():
        try:
            fitted[family.title] = fit_best(family, valid, test, seconds, seed, progress)
        except Refused as reason:
            progress(f"{family.title} is left out: {reason}")
            skipped.append({"name": family.title, "skipped": str(reason)})
    return fitted, skipped


def summarise(measured: Measured, users: Int64Array, seed: int) -> list[dict[str, Any]]:
    """Return every model's facts, figures and intervals, in order.

    Each has `name`, its facts, `all` and `unseen` (figures by name), `intervals` (the same shape, 95 % bounds), and
    `lead`: by name of LEADS, the first model's unseen figure less this one's, and its bounds over the same draws.
    """
    values = np.concatenate([_row_values(rankings) for _, rankings in measured.values()], axis=1)
    width = len(FIGURES)
    figures, means = values.mean(axis=0), resampled_means(values, users, seed)
    rows = []
    for place, (name, (facts, _)) in enumerate(measured.items()):
        own = slice(place * width, (place + 1) * width)
        row = {"name": name, **facts, **_by_protocol(figures[own].tolist())}
        row["intervals"] = _by_protocol([interval(column) for column in means[:, own].T])
        row["lead"] = {}
        for lead in LEADS:
            ours = FIGURES.index(("unseen", lead))
            theirs = place * width + ours
            row["lead"][lead] = [float(figures[ours] - figures[theirs]), *interval(means[:, ours] - means[:, theirs])]
        rows.append(row)
    return rows


def _facts(fitted: Fitted) -> dict[str, Any]:
    searched = fitted.searched
    return {
        "settings": searched.peer.settings(),
        "search_seconds": searched.seconds,
        "fit_seconds": fitted.fit_seconds,
        "searched": {
            "by": f"validation {CHOSEN_BY}, unseen items",
            "complete": searched.complete,
            "tried": searched.tried,
        },
    }


def _row_values(rankings: Mapping[str, Ranking]) -> Float64Array:
    """Return what every test row adds to each of FIGURES, float64 `[rows, figures]`."""
    return np.stack([rankings[protocol].row_values(name) for protocol, name in FIGURES], axis=1)


def _by_protocol(values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = {"all": {}, "unseen": {}}
    for (protocol, name), value in zip(FIGURES, values, strict=True):
        figures[protocol][name] = value
    return figures
