"""Which columns are ids, times, ratings and titles: by name, by type, and by what the tables have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import pandas as pd
import pyarrow as pa

from retrieval.init.profile import Profile, Sampled
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.plan import IDS
from workflows.sources.own_tables.types import PER_SECOND, seconds

WORDS: Final[Mapping[str, str]] = {
    Columns.User: "user userid uid customer customerid client visitor visitorid member account cust person reviewer "
    "reviewerid buyer shopper subscriber viewer listener reader session sessionid profile player student patient",
    Columns.Item: "item itemid iid product productid sku movie movieid film track song article articleid book isbn "
    "asin video listing ad content offer game app document doc news recipe pid parent variant course job restaurant",
    Columns.Timestamp: "timestamp time datetime date ts created at when day unixtime",
    Columns.Rating: "rating ratings stars star score grade overall",
    Columns.Title: "title name label headline",
    Columns.Event: "event action behavior behaviour interaction activity",
}
PATTERNS: Final = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y",
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
)  # fmt: skip
PLAUSIBLE: Final = (631_152_000, 4_102_444_800)
"""Seconds of 1990 and of 2100: a time of an interaction lies between them."""
TRIED: Final = 2_000
"""Values that patterns of times are tried on."""
KINDS: Final = 20
"""A column of events has at most so many different values."""
SHARED: Final = 0.5
"""Two columns that have this share of their values in common hold the same ids."""


class Found(NamedTuple):
    """What a column is."""

    column: Profile
    role: str
    """Our name of it."""
    why: str
    unit: str | None = None
    """Of a timestamp."""


def find_roles(tables: Mapping[str, Sampled], given: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Found]]:
    """Return for each table our name -> the column, as far as there is one.

    Parameters
    ----------
    given
        For each table our name -> the file's name, where the user says so.

    Raises
    ------
    DataError
        No column can be the user or the item, or a given one does not exist.
    """
    found: dict[str, dict[str, Found]] = {table: _given(tables[table], given.get(table, {})) for table in tables}
    for table in ("users", "items"):
        if table in tables:
            _find_id(tables[table], IDS[table][0], found[table])
    interactions = tables["interactions"]
    _find_timestamp(interactions, found["interactions"])
    for table, name in (("users", Columns.User), ("items", Columns.Item)):
        other = found[table][name].column if table in tables else None
        _find_reference(interactions, name, other, found["interactions"])
    _find_by_name(interactions, Columns.Rating, ("integer", "float"), found["interactions"])
    _find_by_name(interactions, Columns.Event, ("integer", "string"), found["interactions"], KINDS)
    if "items" in tables:
        _find_by_name(tables["items"], Columns.Title, ("string",), found["items"])
    return found


def name_score(column: str, role: str) -> int:
    """Return how well a name says that a column has a role: 0 not, then better and better."""
    parts = _parts(column)
    if column.lower() == role or "".join(parts) == role.replace("_", ""):
        return 9
    wanted = WORDS[role].split()
    hits = [part for part in parts if part in wanted]
    if not hits:
        return 0
    is_id = role in (Columns.User, Columns.Item)
    named_id = any(part in ("id", "no", "nr", "number", "key", "code", "uuid", "sku", "asin", "isbn") for part in parts)
    alone = len(parts) == 1
    return 2 + 3 * alone + 2 * (named_id and is_id) - (len(parts) > 3)


def _parts(column: str) -> list[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", column)
    return [part for part in re.split(r"[^a-z0-9]+", spaced.lower()) if part]


def _given(table: Sampled, columns: Mapping[str, str]) -> dict[str, Found]:
    found = {}
    names = [one.name for one in table.columns]
    for role, name in columns.items():
        if name not in names:
            raise DataError(
                f"--column {role}={name}: {table.file.path} has no such column; there are: {', '.join(names)}"
            )
        unit = _unit(table.column(name))[0] if role == Columns.Timestamp else None
        if role == Columns.Timestamp and unit is None:
            raise DataError(
                f"--column {role}={name}: nothing in it looks like a time; write data.timestamp_unit yourself"
            )
        found[role] = Found(table.column(name), role, "you say so", unit)
    return found


def _find_id(table: Sampled, role: str, found: dict[str, Found]) -> None:
    """Find the id of users or items: unique in every row if possible, and called so."""
    if role in found:
        return
    able = [one for one in table.columns if _can_be_id(one)]
    if not able:
        raise DataError(f"{table.file.path}: no column of integers or strings that can be the {role}")

    def score(one: Profile) -> int:
        """`id` alone is the id of its table."""
        return max(name_score(one.name, role), 8 * (one.name.lower() == "id")) + 4 * one.is_unique

    best = max(able, key=score)
    unique = "unique in every row" if best.is_unique else f"{best.rows - best.distinct:,} rows repeat an id"
    called = f"called {best.name!r}, " if name_score(best.name, role) else ""
    found[role] = Found(best, role, called + unique)


def _find_reference(interactions: Sampled, role: str, other: Profile | None, found: dict[str, Found]) -> None:
    """Find the user or item of the interactions: its values are ids of the other table, or it is called so."""
    if role in found:
        return
    taken = {one.column.name for one in found.values()}
    able = [one for one in interactions.columns if _can_be_id(one) and one.name not in taken]
    opposite = Columns.Item if role == Columns.User else Columns.User
    scored = []
    for one in able:
        shared = _shared(one, other) if other is not None else 0.0
        by_name = name_score(one.name, role) - name_score(one.name, opposite)
        scored.append((10 * (shared >= SHARED) * shared + by_name, by_name, shared, one))
    scored.sort(key=lambda entry: -entry[0])
    if not scored or scored[0][0] <= 0:
        names = ", ".join(one.name for one in interactions.columns)
        raise DataError(
            f"{interactions.file.path}: no column looks like the {role}; there are: {names}; say which it is: "
            f"--column {role}=NAME"
        )
    _, by_name, shared, best = scored[0]
    whys = [f"called {best.name!r}"] if by_name > 0 else []
    if other is not None and shared >= SHARED:
        whys.append(f"{shared:.0%} of its values are in {other.table}.{other.name}")
    found[role] = Found(best, role, ", ".join(whys))


def _find_timestamp(table: Sampled, found: dict[str, Found]) -> None:
    if Columns.Timestamp in found:
        return
    best: tuple[int, Found] | None = None
    for one in table.columns:
        score = name_score(one.name, Columns.Timestamp)
        unit, why = _unit(one)
        # A number is a time only where its name says so too, or where it is long enough to be nothing else.
        if unit is None or (not score and unit in PER_SECOND and one.distinct < 0.5 * len(one.values)):
            continue
        if unit == "%Y%m%d" and not score:
            continue
        if best is None or score > best[0]:
            called = f"called {one.name!r}, " if score else ""
            best = score, Found(one, Columns.Timestamp, called + why, unit)
    if best:
        found[Columns.Timestamp] = best[1]


def _find_by_name(
    table: Sampled, role: str, types: tuple[str, ...], found: dict[str, Found], most: float = math.inf
) -> None:
    """Find a column that is called so and has more than one different value, and at most so many."""
    taken = {one.column.name for one in found.values()}
    able = [one for one in table.columns if one.dtype in types and one.name not in taken and 1 < one.distinct <= most]
    best = max(able, key=lambda one: name_score(one.name, role), default=None)
    if role not in found and best is not None and name_score(best.name, role):
        found[role] = Found(best, role, f"called {best.name!r}")


def _can_be_id(column: Profile) -> bool:
    if column.dtype == "float":  # with nulls, integers become 12.0
        return bool(len(column.values)) and bool((column.values == column.values.round()).all())
    return column.dtype in ("integer", "string") and column.distinct > 0


def _shared(one: Profile, other: Profile) -> float:
    """Return the share of the distinct values of `one` that `other` has, too."""
    distinct = pd.Series(one.values.unique())
    return float(_as_text(distinct).isin(set(_as_text(other.values))).mean()) if len(distinct) else 0.0


def _as_text(values: pd.Series) -> pd.Series:
    return (values.astype("int64") if values.dtype.kind == "f" else values).astype(str)


def _unit(column: Profile) -> tuple[str | None, str]:
    """Return the unit of a column of times, and what shows it; (None, "") for other columns."""
    if column.dtype == "datetime":
        return "datetime", "its type is a date and time"
    if column.dtype in ("integer", "float") and len(column.values):
        return _numeric_unit(column)
    return text_unit(column.values.iloc[:TRIED]) if column.dtype == "string" else (None, "")


def _numeric_unit(column: Profile) -> tuple[str | None, str]:
    low, high = column.values.quantile(0.05), column.values.quantile(0.95)
    for unit, per_second in PER_SECOND.items():
        if PLAUSIBLE[0] * per_second <= low and high <= PLAUSIBLE[1] * per_second:
            years = [pd.Timestamp(int(value / per_second), unit="s").year for value in (low, high)]
            return unit, f"as {unit} its values are {' to '.join(map(str, sorted(set(years))))}"
    days = column.values.iloc[:TRIED]
    if column.dtype == "integer" and days.between(19_900_101, 21_000_101).all():
        return text_unit(days.astype(str))
    return None, ""


def text_unit(values: pd.Series) -> tuple[str | None, str]:
    """Return the unit of text that holds times, and an example; (None, "") for other text."""
    if not len(values):
        return None, ""
    texts: Any = pa.array(values.to_numpy(dtype=object), pa.string())
    for unit in ("iso", *PATTERNS):
        if seconds(texts, unit).wrong.mean() < 0.05:
            ambiguous = unit.startswith(("%d/%m", "%m/%d")) and values.str[:2].astype(float).max() <= 12
            doubt = " (day and month could be the other way round)" if ambiguous else ""
            return unit, f"its values look like {values.iloc[0]!r}{doubt}"
    return None, ""
