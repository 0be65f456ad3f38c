"""The tables that the commands print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Column, Table
from rich.text import Text


@dataclass(frozen=True)
class Item:
    """One row of a list of items."""

    id: int | str
    title: str
    genres: str = ""
    score: float | None = None
    """Of a served item; of a liked item, the user's rating."""
    held_out: bool = False
    """A served item that the user did interact with in the test rows, which the model never saw."""


@dataclass(frozen=True)
class Example:
    """One user: what they liked, and what they were served."""

    user: int | str
    facts: str
    liked: list[Item]
    served: list[Item]


class Cells(NamedTuple):
    """A table in words."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


CUTOFFS = (1, 5, 10, 50, 100)
METRICS = (
    ("recall", "recall@{}"),
    ("hit rate", "hit_rate@{}"),
    ("ndcg", "ndcg@{}"),
    ("mrr", "mrr"),
    ("coverage", "coverage@{}"),
)
PROTOCOLS = (("all", "all items"), ("unseen", "without what the user already had"))
_TASK_FIGURES = tuple((side, name) for side in ("all", "unseen") for name in ("recall@10", "recall@100"))
_RATED_BY = (("head", "the head"), ("biases", "biases of user and item"), ("mean", "the mean rating"))


def metric_rows(metrics: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Yield (name, value) in reading order, those that are there."""
    for _, pattern in METRICS:
        names = [pattern.format(k) for k in CUTOFFS] if "{}" in pattern else [pattern]
        yield from ((name, metrics[name]) for name in names if name in metrics)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_bytes())


def asked_rows(metrics: Mapping[str, Any]) -> str:
    """Say how many test rows the figures are of; where they were drawn, with the standard error of drawing."""
    drawn = metrics.get("sample")
    if drawn is None:
        return f"{metrics['rows']:,} test rows"
    errors = ", ".join(f"{name} ± {error:.4f}" for name, error in drawn["standard_error"]["unseen"].items())
    return (
        f"{drawn['rows']:,} of {drawn['of_rows']:,} test rows, those of {drawn['users']:,} users drawn by seed "
        f"{drawn['seed']} (standard error of drawing, unseen: {errors})"
    )


def metrics_table(metrics: Mapping[str, Any], only: Sequence[str] = ()) -> Table:
    """Metrics, all or `only` those named: ours beside popularity, with all items and with unseen ones."""
    table = _paired(f"{asked_rows(metrics)}, {metrics['items']:,} items", [""], [name for _, name in PROTOCOLS])
    popularity = metrics.get("popularity", {})
    for name in only or [name for name, _ in metric_rows(metrics["all"])]:
        cells = []
        for protocol, _ in PROTOCOLS:
            cells += [_number(metrics[protocol].get(name)), _number(popularity.get(protocol, {}).get(name))]
        table.add_row(name, *cells, end_section=not only and (name.endswith("@100") or name == "mrr"))
    return table


def _paired(title: str, first: Sequence[str], names: Sequence[str], beside: str = "popularity") -> Table:
    """Return a table without rows: the `first` columns, and figures by name, each with another `beside` it."""
    columns = [Column(name, justify="left" if name in ("", "given") else "right") for name in first]
    for name in names:
        columns += [Column(name, justify="right"), Column(beside, justify="right", style="dim")]
    return Table(*columns, title=title, title_justify="left")


def groups_table(metrics: Mapping[str, Any]) -> Table:
    """Kinds of test rows: how many, and what is found among unseen items, beside popularity."""
    names = list(next(iter(metrics["groups"].values()))["unseen"])
    table = _paired("kinds of test rows, without what the user already had", ["", "rows", "users"], names)
    for kind, group in metrics["groups"].items():
        figures = [_number(group[side][name]) for name in names for side in ("unseen", "popularity")]
        table.add_row(kind, f"{group['rows']:,}", f"{group['users']:,}", *figures)
    return table


def more_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return what only some runs measure: the other tasks of the towers, a ranker's gain, and held-out playlists."""
    return [
        *per_user_tables(metrics),
        *task_tables(metrics),
        *ranking_tables(metrics),
        *continuation_tables(metrics),
    ]


def per_user_rows(metrics: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what papers report, a metric a row: ours and popularity's among unseen items, at every k."""
    figures = metrics.get("per_user")
    if figures is None:
        return []
    ours, theirs = figures["unseen"], figures["popularity"]["unseen"]
    names = dict.fromkeys(name.partition("@")[0] for name in ours)
    return [(name, [_number(side[f"{name}@{k}"]) for k in figures["ks"] for side in (ours, theirs)]) for name in names]


def per_user_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the figures per user, where a run has them."""
    if not (rows := per_user_rows(metrics)):
        return []
    figures = metrics["per_user"]
    title = f"as papers report: the mean over {figures['users']:,} users, each asked once, without what the user had"
    table = _paired(title, [""], [f"@{k}" for k in figures["ks"]])
    for name, cells in rows:
        table.add_row(name.replace("_", " "), *cells)
    return [table]


def ranking_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return what is served with a ranker, beside what the towers alone would serve."""
    if "retrieval" not in metrics:
        return []
    table = _paired("retrieved, then ranked", [""], [name for _, name in PROTOCOLS], "retrieval alone")
    for name in ("recall@10", "ndcg@10", "recall@50", "mrr"):
        sides = [side[protocol][name] for protocol, _ in PROTOCOLS for side in (metrics, metrics["retrieval"])]
        table.add_row(name, *map(_number, sides))
    return [table]


def continuation_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Held-out playlists, if there are any, by scenario: the RecSys Challenge 2018's metrics beside popularity's."""
    if "continuation" not in metrics:
        return []
    playlists, names = metrics["continuation"], ("r_precision", "ndcg", "clicks")
    title = f"playlists continued by {playlists['answers']} tracks, seeds left out"
    table = _paired(title, ["given", "playlists"], names)
    rows = [*playlists["scenarios"], {"name": "mean of the scenarios", **playlists["mean"]}]
    for row in rows:
        figures = [side[name] for name in names for side in (row, row["popularity"])]
        cells = [_number(figure) if number < 4 else f"{figure:.2f}" for number, figure in enumerate(figures)]
        last = row is rows[-2]
        table.add_row(row["name"], str(row.get("playlists", "")), *cells, end_section=last)
    return [table]


def tasks_for_page(metrics: Mapping[str, Any]) -> list[Cells]:
    """Return errors of ratings, and what is found of each kind of event; nothing of towers that only retrieve."""
    tasks = metrics.get("tasks", {})
    return [cells_of(tasks) for name, cells_of in (("rating", _ratings), ("events", _events)) if name in tasks]


def _ratings(tasks: Mapping[str, Any]) -> Cells:
    errors = tasks["rating"]
    rows = [[label, *(f"{errors[name][error]:.4f}" for error in ("rmse", "mae"))] for name, label in _RATED_BY]
    return Cells(f"ratings of {errors['rows']:,} test rows", ("predicted by", "rmse", "mae"), rows)


def _events(tasks: Mapping[str, Any]) -> Cells:
    asked = {"served": f"the vector served, for {tasks['served']}", "own": "its own head", "popularity": "popularity"}
    rows = [
        [kind, f"{figures['rows']:,}", label, *(f"{figures[by][side][name]:.4f}" for side, name in _TASK_FIGURES)]
        for kind, figures in tasks["events"].items()
        for by, label in asked.items()
        if by in figures
    ]
    columns = ("event", "rows", "found by", *(f"{name}, {side}" for side, name in _TASK_FIGURES))
    return Cells("kinds of events, among all items and those that the user had not yet", columns, rows)


def task_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the same, as the console prints it."""
    tables = []
    for cells in tasks_for_page(metrics):
        left = ("event", "predicted by", "found by")
        columns = (Column(name, justify="left" if name in left else "right") for name in cells.columns)
        table = Table(*columns, title=cells.title, title_justify="left")
        for row in cells.rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def example_table(example: Example) -> Table:
    """One user's answer, next to what the user liked; a line per item, however narrow the terminal."""
    table = Table(
        Column("rank", justify="right", no_wrap=True),
        Column("  recommended", max_width=40),
        Column("genres", max_width=20),
        Column("score", justify="right", no_wrap=True),
        Column("liked before", style="dim", max_width=40),
        title=f"user {example.user}: {example.facts}".rstrip(": "),
        title_justify="left",
    )
    for rank, (served, liked) in enumerate(zip_longest(example.served, example.liked), start=1):
        cells = [*_served_cells(rank, served), liked.title if liked else ""]
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    if any(item.held_out for item in example.served):
        table.caption = "* in the user's test rows, which training never saw"
        table.caption_justify = "left"
    return table


def answer_table(title: str, items: Sequence[Item]) -> Table:
    """One user's answer to `retrieval query`."""
    titled = any(item.title != str(item.id) for item in items)
    words = ("title", "genres") if titled else ()
    columns = (
        Column(name, justify="left" if name in words else "right") for name in ("rank", "item_id", *words, "score")
    )
    table = Table(*columns, title=title)
    for rank, item in enumerate(items, start=1):
        described = [item.title, item.genres] if titled else []
        table.add_row(str(rank), str(item.id), *described, _number(item.score))
    return table


def _served_cells(rank: int, item: Item | None) -> tuple[str, str, str, str]:
    if item is None:
        return "", "", "", ""
    return str(rank), ("* " if item.held_out else "  ") + item.title, item.genres, _number(item.score)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
