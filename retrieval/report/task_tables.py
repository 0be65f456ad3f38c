"""What towers that learned more than retrieval were found to have learned, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.table import Table

FIGURES = tuple((side, name) for side in ("all", "unseen") for name in ("recall@10", "recall@100"))
RATED_BY = (("head", "the head"), ("biases", "biases of user and item"), ("mean", "the mean rating"))


class Cells(NamedTuple):
    """A table in words."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


def tasks_for_page(metrics: Mapping[str, Any]) -> list[Cells]:
    """Return errors of ratings, and what is found of each kind of event; nothing of towers that only retrieve."""
    tasks = metrics.get("tasks", {})
    return [cells_of(tasks) for name, cells_of in (("rating", _ratings), ("events", _events)) if name in tasks]


def _ratings(tasks: Mapping[str, Any]) -> Cells:
    errors = tasks["rating"]
    rows = [[label, *(f"{errors[name][error]:.4f}" for error in ("rmse", "mae"))] for name, label in RATED_BY]
    return Cells(f"ratings of {errors['rows']:,} test rows", ("predicted by", "rmse", "mae"), rows)


def _events(tasks: Mapping[str, Any]) -> Cells:
    asked = {"served": f"the vector served, for {tasks['served']}", "own": "its own head", "popularity": "popularity"}
    rows = [
        [kind, f"{figures['rows']:,}", label, *(f"{figures[by][side][name]:.4f}" for side, name in FIGURES)]
        for kind, figures in tasks["events"].items()
        for by, label in asked.items()
        if by in figures
    ]
    columns = ("event", "rows", "found by", *(f"{name}, {side}" for side, name in FIGURES))
    return Cells("kinds of events, among all items and those that the user had not yet", columns, rows)


def task_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the same, as the console prints it."""
    tables = []
    for cells in tasks_for_page(metrics):
        table = Table(title=cells.title, title_justify="left")
        for column in cells.columns:
            table.add_column(column, justify="left" if column in ("event", "predicted by", "found by") else "right")
        for row in cells.rows:
            table.add_row(*row)
        tables.append(table)
    return tables
