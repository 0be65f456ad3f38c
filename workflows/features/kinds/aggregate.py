"""The kind `aggregate`: what the training interactions say about each user or item.

`workflows/fitting/aggregates.py` learns it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.kinds.base import VALUES, ColumnKind, Compiled, Form, Planned, Sources, Unfit, named
from workflows.features.kinds.number import SQUARED

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from workflows.fitting.learned import Learned

Statistic = Literal["count", "mean", "recency"]


class Aggregate(ColumnKind, tag_field="kind", tag="aggregate", frozen=True, kw_only=True):
    """What the training interactions say about a user or an item, float32 `[n, how many]`: a feature of `user_id` or
    `item_id`.

    Fitted on the training part of the split alone: valid and test rows add nothing to it. Training rows themselves see
    figures that they, and rows later than they, are part of; what is served are the same figures.
    """

    statistics: Annotated[tuple[Statistic, ...], Meta(min_length=1)] = ("count", "mean", "recency")
    """`count` of the interactions, as log(1 + count); `mean` of the column `of`; `recency`: log(1 + the days between
    the last of them and the last of all). Each is then normalised over the ids that have it. An id without interactions
    has a count of 0, the mean over the ids, and the recency of the id that was away for longest."""
    of: str = "rating"
    """The numeric column of the interactions that `mean` is about. Rows where it is null count for nothing in the mean;
    an id that has no others gets the mean over the ids."""

    example: ClassVar[str] = """\
[query.features]
user_id = [{ kind = "categorical" }, { kind = "aggregate" }]

[item.features]
item_id = [{ kind = "categorical" }, { kind = "aggregate", statistics = ["count", "recency"] }]
"""

    def accepts(self, column: str) -> tuple[str, ...]:
        return VALUES

    def needs_time(self, column: str) -> bool:
        return Columns.Timestamp in (column, self.of) or "recency" in self.statistics

    def unfit(self, column: str) -> dict[str, Unfit]:
        return {self.of: _without_mean} if "mean" in self.statistics else {}

    @property
    def form(self) -> Form:
        return "vector"

    @property
    def width(self) -> int | None:
        return len(self.statistics)

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.codes import Lookup

        return named(entry) >> Lookup(*sources.tables[entry.output])

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "lookup", {"vocabulary": "", "table": ""}


def _without_mean(values: pd.Series) -> npt.NDArray[np.bool_]:
    """Return which values leave a mean, or the deviation that it is divided by, infinite; bool `[n]`."""
    if values.dtype.kind not in "iuf":
        return np.zeros(len(values), bool)
    return np.asarray(np.abs(values.to_numpy(np.float64, na_value=np.nan)) > SQUARED)


def aggregated(planned: Iterable[Planned]) -> list[tuple[Planned, Aggregate]]:
    """Return the aggregates among the features."""
    return [(entry, entry.feature) for entry in planned if isinstance(entry.feature, Aggregate)]


def columns_needed(planned: Iterable[Planned]) -> set[str]:
    """Return the columns of the interactions that aggregates look at."""
    entries = aggregated(planned)
    of = {feature.of for _, feature in entries if "mean" in feature.statistics}
    return {entry.column for entry, _ in entries} | of | ({Columns.Timestamp} if entries else set())


def check_aggregates(planned: Iterable[Planned], section: str, interactions: Iterable[str]) -> None:
    """Raise RecipeError unless every aggregate is of the side's id, over columns that the interactions have."""
    key = Columns.User if section == "query.features" else Columns.Item
    for entry, _ in aggregated(planned):
        if entry.column != key:
            raise RecipeError(f"[{section}] {entry.column}: an aggregate is a feature of {key}; move it there")
    for column in sorted(columns_needed(planned) - set(interactions)):
        raise RecipeError(f"[{section}] {key}: the interactions have no column {column!r} to aggregate")
