"""The view of quality: recall over k, by group, by tag and by popularity, beside simple models and a second run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.exposure import TOP_K
from retrieval.explore.loaded.measured import SERVED, Rows
from retrieval.report.charts import Series, line_chart

KS = (1, 2, 5, 10, 20, 30, 50, 75, 100)
AT, TAGS, DECILES, USERS_SHOWN, LINES = 10, 20, 10, 12, 6


class Group(NamedTuple):
    """Some of the test rows."""

    name: str
    rows: int
    recalls: list[float]
    """recall@AT of each model."""


def quality_page(explored: Explored, other: Explored | None) -> dict[str, Any]:
    """Return what the page shows; what is still being measured is said in it."""
    runs = [run for run in (explored, other) if run]
    page: dict[str, Any] = {"metrics": explored.metrics, "at": AT, "other": other, "top_k": TOP_K}
    page["ready"] = all(run.measured.ready for run in runs) and explored.exposure.ready
    if not page["ready"]:
        return page
    for run in runs:
        if problem := run.measured.problem:
            del run.measured  # whoever loads the page again has it measured again
            return {**page, "problem": problem}
    page["problem"] = ""
    rows = explored.measured.rows
    page["series"] = lines = recall_curves(rows, other)
    page["curve"] = line_chart(lines, "k", "recall@k, unseen items", from_zero=True)
    page["models"] = [SERVED, *(["the other run"] if other else []), "popularity", *_best(rows)]
    ranks = _compared(rows, other)
    page["tables"] = [(title, _groups(kinds, ranks)) for title, kinds in _kinds(explored, rows)]
    page["calibration"] = calibration(explored, rows)
    page["differ"] = differences(rows, other.measured.rows) if other else None
    return page


def recall(ranks: np.ndarray, k: int) -> float:
    """Return the share of rows whose item is among the first k."""
    return float((ranks < k).mean()) if len(ranks) else 0.0


def recall_curves(rows: Rows, other: Explored | None) -> list[Series]:
    """Return recall over k of every model, as many as the page has colours for."""
    ranks = {SERVED: rows.ranks[SERVED]}
    if other:
        ranks[other.name] = other.measured.rows.ranks[SERVED]
    ranks |= {name: ranked for name, ranked in rows.ranks.items() if name != SERVED}
    return [Series(name, KS, [recall(ranked, k) for k in KS]) for name, ranked in list(ranks.items())[:LINES]]


def _best(rows: Rows) -> list[str]:
    """Return the name of the best simple model beside popularity, if there is one."""
    names = [name for name in rows.ranks if name not in (SERVED, "popularity")]
    return sorted(names, key=lambda name: -recall(rows.ranks[name], AT))[:1]


def _compared(rows: Rows, other: Explored | None) -> list[np.ndarray | None]:
    """Return the ranks of the models that stand side by side; None of another run on other rows."""
    own = [rows.ranks[name] for name in (SERVED, "popularity", *_best(rows))]
    if other is None:
        return [*own]
    theirs = other.measured.rows
    return [own[0], theirs.ranks[SERVED] if same_rows(rows, theirs) else None, *own[1:]]


def same_rows(ours: Rows, theirs: Rows) -> bool:
    """Return whether two runs were asked for the same test rows."""
    return np.array_equal(ours.users, theirs.users) and np.array_equal(ours.targets, theirs.targets)


def _kinds(explored: Explored, rows: Rows) -> Iterator[tuple[str, list[tuple[str, np.ndarray]]]]:
    """Yield kinds of groups, and the rows of each, bool [rows]."""
    users = explored.retriever.users.rows_of(rows.users.astype(explored.user_ids.dtype))
    had = np.where(users >= 0, explored.counts()[users], 0)
    yield "by length of the history in the release", _by_number(had, (0, 5, 20, 50, 100), "items")
    chosen = explored.peers.popularity[rows.targets]
    yield "by how often the item was chosen", _by_number(chosen, (0, 5, 20, 100, 500), "times")
    for name, tags in explored.items.tags.items():
        entries = [(value, np.isin(rows.targets, tags.members(code))) for code, value in enumerate(tags.values[:1000])]
        entries.sort(key=lambda entry: -int(entry[1].sum()))
        yield f"by {name}", entries[:TAGS]


def _by_number(values: np.ndarray, edges: Sequence[int], what: str) -> list[tuple[str, np.ndarray]]:
    """Return the rows whose value is from one edge up to the next."""
    inner = [(f"{low} to {after - 1} {what}", (values >= low) & (values < after)) for low, after in pairwise(edges)]
    return [*inner, (f"{edges[-1]} {what} or more", values >= edges[-1])]


def _groups(kinds: list[tuple[str, np.ndarray]], ranks: list[np.ndarray | None]) -> list[Group]:
    return [
        Group(name, int(own.sum()), [float("nan") if ranked is None else recall(ranked[own], AT) for ranked in ranks])
        for name, own in kinds
        if own.any()
    ]


def calibration(explored: Explored, rows: Rows) -> list[tuple[str, float, float]]:
    """Return, for items by popularity a tenth at a time, their share of what users chose in the test rows, and of what
    they are answered."""
    order = np.argsort(-explored.peers.popularity, kind="stable")
    chosen = np.bincount(rows.targets, minlength=len(order)) / max(1, len(rows.targets))
    answered = explored.exposure.counts() / max(1, int((explored.exposure.answers >= 0).sum()))
    parts = np.array_split(order, min(DECILES, len(order)))
    names = ["most popular tenth", *(f"tenth {number}" for number in range(2, len(parts) + 1))]
    return [
        (name, float(chosen[part].sum()), float(answered[part].sum())) for name, part in zip(names, parts, strict=True)
    ]


def differences(rows: Rows, theirs: Rows) -> list[tuple[Any, int, int, int]] | None:
    """Return users of whom two runs find the most different numbers of test items in the first AT: id, rows, found by
    this and by the other run; None where they were asked for other rows."""
    if not same_rows(rows, theirs):
        return None
    users, row_user = np.unique(rows.users, return_inverse=True)
    hits = [np.bincount(row_user, weights=run.ranks[SERVED] < AT, minlength=len(users)) for run in (rows, theirs)]
    asked = np.bincount(row_user, minlength=len(users))
    apart = np.abs(hits[0] - hits[1])
    order = np.argsort(-apart, kind="stable")[: min(USERS_SHOWN, int(np.count_nonzero(apart)))]
    return [(users[user], int(asked[user]), int(hits[0][user]), int(hits[1][user])) for user in order.tolist()]
