"""Interactions without a time: their source gives every one of them the timestamp 0."""

from __future__ import annotations

from workflows.columns import Columns
from workflows.config import AnySplit, FeatureSide, LeaveLastOutSplit, TemporalSplit
from workflows.errors import RecipeError
from workflows.tables.store import Stored, read_part


def is_dated(stored: Stored) -> bool:
    """Return whether any interaction has a time."""
    return any((read_part(part, [Columns.Timestamp])[Columns.Timestamp] != 0).any() for part in stored.parts)


def check_dated(stored: Stored, split: AnySplit, query: FeatureSide, item: FeatureSide) -> None:
    """Refuse what needs the time of interactions that have none.

    Raises
    ------
    RecipeError
        Names the recipe's keys that need it.
    """
    needing = needing_time(split, query, item)
    if needing and not is_dated(stored):
        raise RecipeError(
            f"{', '.join(needing)}: the interactions have no time (every timestamp is 0); say which column holds it in "
            'data.interactions.columns, or leave these out and choose a random split: split = { kind = "random" }'
        )


def needing_time(split: AnySplit, query: FeatureSide, item: FeatureSide) -> list[str]:
    """Return the keys of the recipe that make use of the interactions' time."""
    timed = isinstance(split, (TemporalSplit, LeaveLastOutSplit))
    places = [f'data.split kind = "{split.__struct_config__.tag}"'] if timed else []
    for section, side in (("query.features", query), ("item.features", item)):
        timely = dict.fromkeys(column for column, feature in side.each() if feature.needs_time(column))
        places += [f"{section}.{column}" for column in timely]
    return places
