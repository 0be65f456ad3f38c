"""What rows may mean that nobody said: low ratings, returns, and the threshold that would leave them out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from retrieval.init.columns.profile import Profile, numbers
from retrieval.init.columns.words import parts_of
from retrieval.init.plan import Plan
from retrieval.recipes.toml import inline
from workflows.columns import Columns

QUANTITIES: Final = {"quantity", "qty", "amount", "count", "units", "plays", "weight", "total"}
LIKED: Final = 0.7
"""Share of the scale from which a rating is taken for liking."""


def meanings(plan: Plan) -> Iterator[str]:
    """Yield comments: what a column of the interactions says of its rows, and what would act upon it."""
    rating = plan.roles["interactions"].get(Columns.Rating)
    if rating is not None:
        yield from _of_rating(rating.column)
    for column in plan.tables["interactions"].columns:
        if column.dtype in ("integer", "float") and QUANTITIES & set(parts_of(column.name)):
            yield from _of_quantity(column)


def _of_rating(column: Profile) -> Iterator[str]:
    values = numbers(column).dropna().astype("float64")
    low, high = float(values.min()), float(values.max())
    yield f"{column.name}: every row counts as liked, {low:g} as {high:g}; see [train.objective.rating] for other ways"
    for none in (-1.0, 0.0):
        if low <= none < high and (share := float((values == none).mean())):
            least = float(values[values > none].min())
            yield f"{share:.1%} of the ratings are {none:g}: no rating? to leave them out:"
            yield f"at_least = {inline({Columns.Rating: least})}"
            return
    liked = float(np.ceil(low + LIKED * (high - low)))
    if high - low >= 2 and (share := float((values < liked).mean())) > 0.01:
        lowest = float((values == low).mean())
        yield f"{share:.1%} are below {liked:g}, {lowest:.1%} are {low:g}; to learn from the others alone:"
        yield f"at_least = {inline({Columns.Rating: liked})}"


def _of_quantity(column: Profile) -> Iterator[str]:
    values = column.values.astype("float64")
    share = float((values < 0).mean())
    if share:
        least = float(values[values > 0].min()) if (values > 0).any() else 0.0
        yield f"{column.name}: {share:.1%} are negative: returns? to leave them out:"
        yield f"at_least = {inline({column.name: least})}"
