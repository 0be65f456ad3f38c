"""Which column says when, and in which unit; where several do, such as a date and a time of day, they are joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import pyarrow as pa
from msgspec.structs import replace

from retrieval.init.columns.ids import is_clock
from retrieval.init.columns.profile import Found, Profile, Sampled, numbers, read_sample
from retrieval.init.columns.words import name_score, parts_of
from retrieval.init.times.formats import WRONG, readings, shown
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import locate
from workflows.sources.own_tables.types import PER_DAY, PER_SECOND, seconds

PLAUSIBLE: Final = (631_152_000, 4_102_444_800)
"""Seconds of 1990 and of 2100: a time of an interaction lies between them."""

DIGITS: Final = r"(199\d|20\d\d)[01]\d[0-3]\d([0-2]\d[0-5]\d([0-5]\d)?)?"
"""Numbers such as 20240501 and 20240501123000."""
MOST_DAYS: Final = 100_000
SPREADSHEET: Final = (32_874, 73_051)
"""What spreadsheets call the first days of 1990 and of 2100; since 1970 it would be 2060 and later."""
ROWS: Final = "the rows"
"""Stands for a column of times where rows are in the order of time."""
FEWEST_PLACES: Final = 3
"""Smaller numbers may count anything."""
DATE: Final = ("year", "month", "day")
FINER: Final = 1.5
"""A column of so many times the different values has finer times."""


def find_timestamp(table: Sampled, roles: dict[str, Found], said: str | None) -> None:
    """Find the times of the interactions: a column that is called so, of equal names the finer one."""
    if Columns.Timestamp in roles:
        return
    best: tuple[int, Found] | None = None
    for column in table.columns:
        score = name_score(column.name, Columns.Timestamp)
        unit = next(iter(units_of(column)), None) or (_from_some_beginning(column) if score else None)
        # A number is a time only where its name says so too, or where it is long enough to be nothing else.
        enough = 0.5 if table.file.header else 0.05
        if unit is None or (not score and unit in PER_SECOND and column.distinct < enough * len(column.values)):
            continue
        if unit.startswith("%Y%m%d") and column.dtype == "integer" and not score:
            continue
        if best is None or score > best[0] or (score == best[0] and column.distinct > FINER * best[1].column.distinct):
            called = f"called {column.name!r}, " if score else ""
            best = score, Found(column, Columns.Timestamp, called + _why(column, said or unit), said or unit)
    if best:
        refuse_doubt(best[1].column, said)
        roles[Columns.Timestamp] = best[1]


def find_order(table: Sampled, roles: dict[str, Found], said: str | None) -> None:
    """Where there are no times, find a column of places among the user's own; the order of rows where the user says so.

    Such a column counts the rows of nearly every user from 0 or from 1.
    """
    if Columns.Timestamp in roles:
        return
    users, taken = roles[Columns.User].column.values, {found.column.name for found in roles.values()}
    for column in table.columns:
        is_free = column.name not in taken and column.dtype == "integer" and not column.nulls
        if is_free and _counts(column.values, users):
            why = f"it counts the rows of each user, {column.values.min()} to {column.values.max():,}"
            roles[Columns.Timestamp] = Found(column, Columns.Timestamp, why, "order")
            return
    if said == "order":
        rows = pd.Series(range(table.rows))
        column = Profile(table.table, ROWS, "integer", rows, table.rows, 0, table.rows)
        roles[Columns.Timestamp] = Found(column, Columns.Timestamp, "they are in the order of time, you say", "order")


def _counts(values: pd.Series, users: pd.Series) -> bool:
    """Return whether values count the rows from 0 or from 1, for nearly every user that has several."""
    if not len(values) or values.min() not in (0, 1) or values.max() < FEWEST_PLACES:
        return False
    by_user = values.groupby(users)
    sizes = by_user.size()
    counted = (by_user.max() - values.min() + 1 == sizes) & (by_user.nunique() == sizes)
    return bool(counted[sizes > 1].mean() > 1 - WRONG)


def seconds_of(time: Found) -> pd.Series:
    """Return the sampled times of a column in seconds, by their rows; null where one cannot be read."""
    values: Any = time.column.values
    if time.unit == "datetime":
        return values
    read = seconds(pa.array(values.astype(str) if values.dtype == object else values), time.unit or "")
    return read.values.to_pandas().set_axis(values.index)


def refuse_doubt(column: Profile, said: str | None) -> None:
    """Raise DataError where times can be read in two ways and the user does not say which is meant."""
    units = units_of(column)
    if said or len(units) < 2:
        return
    values = column.values.astype(str)
    example = next((value for value in values if len({shown(value, unit) for unit in units}) > 1), values.iloc[0])
    ways = " or ".join(f"{shown(example, unit)} (--timestamp-unit {unit!r})" for unit in units)
    raise DataError(f"{column.table}: column {column.name!r}: {example!r} is {ways}; say which")


def units_of(column: Profile) -> list[str]:
    """Return the units that fit a column of times: none for other columns, two where it can be read in two ways."""
    if column.dtype == "datetime":
        return ["datetime"]
    if column.dtype in ("integer", "float") and len(column.values):
        return _numeric_units(column)
    if column.dtype != "string":
        return []
    return readings(column.values) or (_numeric_units(column) if numbers(column).isna().mean() < WRONG else [])


def not_read(column: Profile) -> str:
    """Say that a column is called like a time and is not read as one, and what would read it."""
    example = f"{str(column.values.iloc[0])[:40]!r}" if len(column.values) else column.dtype
    return (
        f"{column.name!r} is called like a time, but {example} is not read as one; if it is: "
        f"--column timestamp={column.name} --timestamp-unit HOW"
    )


def _numeric_units(column: Profile) -> list[str]:
    low, high = numbers(column).quantile([0.05, 0.95])
    for unit, per_second in PER_SECOND.items():
        if PLAUSIBLE[0] * per_second <= low and high <= PLAUSIBLE[1] * per_second:
            return [unit]
    if column.dtype == "integer" and column.values.astype(str).str.fullmatch(DIGITS).all():
        return readings(column.values.astype(str))
    return []


def _from_some_beginning(column: Profile) -> str | None:
    """Return the unit of times that count from a beginning that nobody tells; days of a month or a week are none."""
    if column.dtype not in ("integer", "float") or not len(column.values) or column.values.min() < 0:
        return None
    parts, most = {*parts_of(column.name)}, float(column.values.max())
    if parts & {"day", "days", "date", "tag"} and 31 < most < MOST_DAYS:
        return "excel" if SPREADSHEET[0] <= column.values.min() and most < SPREADSHEET[1] else "days"
    is_counted = parts & {"timestamp", "time", "ts", "unixtime"} and column.distinct > 0.1 * len(column.values)
    return "seconds" if is_counted and PER_DAY < most < PLAUSIBLE[1] else None


def _why(column: Profile, unit: str) -> str:
    """Return what shows that a column holds times of a unit."""
    if unit == "datetime":
        return "its type is a date and time"
    if unit == "order":
        return "places in the order of time"
    times = numbers(column).astype("float64").dropna()
    if unit == "excel":
        return f"days as a spreadsheet counts them, {times.min():g} to {times.max():g}"
    if unit == "days" or (unit == "seconds" and times.quantile(0.95) < PLAUSIBLE[0]):
        return f"{unit} from some beginning, {times.min():g} to {times.max():g}"
    if unit in PER_SECOND and len(times):
        ends = times.quantile([0.05, 0.95]) / PER_SECOND[unit]
        years = {pd.Timestamp(int(value), unit="s").year for value in ends}
        return f"as {unit} its values are {' to '.join(map(str, sorted(years)))}"
    return f"its values look like {str(column.values.iloc[0])!r}"


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
