"""Times in several columns: a date and a time of day; a year, a month and a day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from retrieval.init.columns.ids import is_clock
from retrieval.init.columns.profile import Found, Sampled, read_sample
from retrieval.init.times.timestamps import find_timestamp
from workflows.columns import Columns
from workflows.sources.own_tables.formats.files import locate
from workflows.sources.own_tables.types import PER_DAY

DATE: Final = ("year", "month", "day")


def joined(interactions: Sampled, given: Mapping[str, Mapping[str, str]], rows: int) -> Sampled:
    """Return interactions with their times in one column, if they are in several and nothing says otherwise."""
    names = [column.name for column in interactions.columns]
    if Columns.Timestamp in given.get("interactions", {}) or Columns.Timestamp in names:
        return interactions
    sources = _date_and_clock(interactions) or _year_month_day(interactions)
    if not sources:
        return interactions
    file = replace(interactions.file, joined={**interactions.file.joined, Columns.Timestamp: tuple(sources)})
    note = f"{' and '.join(map(repr, sources))} are its times"
    return read_sample(locate(file, interactions.table), rows, [*interactions.notes, note])


def _date_and_clock(interactions: Sampled) -> list[str]:
    roles: dict[str, Found] = {}
    find_timestamp(interactions, roles, "any")  # which of two readings is meant is asked for later
    clocks = [column.name for column in interactions.columns if is_clock(column)]
    if Columns.Timestamp not in roles or not clocks:
        return []
    date = roles[Columns.Timestamp].column
    if date.dtype == "datetime":
        is_day = bool((date.values % PER_DAY == 0).all())
    else:
        is_day = date.dtype == "string" and not date.values.iloc[:1000].str.contains(":").any()
    return [date.name, clocks[0]] if is_day else []


def _year_month_day(interactions: Sampled) -> list[str]:
    by_name = {column.name.lower(): column for column in interactions.columns if column.dtype == "integer"}
    limits = {"year": (1970, 2100), "month": (1, 12), "day": (1, 31)}
    if not all(name in by_name and by_name[name].values.between(*limits[name]).all() for name in DATE):
        return []
    return [by_name[name].name for name in DATE]
