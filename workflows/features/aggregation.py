"""Which features are aggregates of the training interactions, and what they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from workflows.columns import Columns
from workflows.config import Aggregate
from workflows.errors import RecipeError
from workflows.features.plan import Planned


class Aggregated(NamedTuple):
    """One aggregate of the recipe."""

    output: str
    key: str
    feature: Aggregate


def aggregated(planned: Iterable[Planned]) -> list[Aggregated]:
    """Return the aggregates among the features."""
    return [Aggregated(one.output, one.column, one.feature) for one in planned if isinstance(one.feature, Aggregate)]


def columns_needed(planned: Iterable[Planned]) -> set[str]:
    """Return the columns of the interactions that aggregates look at."""
    entries = aggregated(planned)
    of = {entry.feature.of for entry in entries if "mean" in entry.feature.statistics}
    return {entry.key for entry in entries} | of | ({Columns.Timestamp} if entries else set())


def check_aggregates(planned: Iterable[Planned], section: str, interactions: Iterable[str]) -> None:
    """Raise RecipeError unless every aggregate is of the side's id, over columns that the interactions have."""
    key = Columns.User if section == "query.features" else Columns.Item
    for entry in aggregated(planned):
        if entry.key != key:
            raise RecipeError(f"[{section}] {entry.key}: an aggregate is a feature of {key}; move it there")
    for column in sorted(columns_needed(planned) - set(interactions)):
        raise RecipeError(f"[{section}] {key}: the interactions have no column {column!r} to aggregate")
