"""Which columns are ids, times, ratings and titles: by name, by type, and by what the tables have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import pandas as pd

from retrieval.init.profile import Profile, Sampled
from retrieval.init.times import readings, shown
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.plan import IDS
from workflows.sources.own_tables.types import PER_SECOND

WORDS: Final[Mapping[str, str]] = {
    Columns.User: "user users userid uid customer customers customerid client visitor visitorid member account cust "
    "person people reviewer reviewerid buyer shopper subscriber viewer listener reader session sessionid profile "
    "player student patient household author owner steamid",
    Columns.Item: "item items itemid iid product products productid sku movie movies movieid film films track tracks "
    "song songs article articles articleid book books isbn asin video videos listing ad content offer game games app "
    "document doc news recipe recipes pid parent variant course courses job jobs restaurant artist artists business "
    "venue poi place hotel anime beer stock stockcode",
    Columns.Timestamp: "timestamp time datetime date ts created at when day unixtime",
    Columns.Rating: "rating ratings stars star score grade overall",
    Columns.Title: "title name label headline description",
    Columns.Event: "event action behavior behaviour interaction activity",
}
OTHER_IDS: Final = {
    "order", "invoice", "transaction", "basket", "receipt", "row", "index", "line", "event", "log", "review", "rating",
    "store", "shop", "page", "rank",
}  # fmt: skip
"""What ids of neither users nor items are called after."""
NAMING_IDS: Final = ("id", "no", "nr", "number", "key", "code", "uuid", "sku", "asin", "isbn")
PLAUSIBLE: Final = (631_152_000, 4_102_444_800)
"""Seconds of 1990 and of 2100: a time of an interaction lies between them."""
FEW_RATINGS: Final = 11
"""Without a header, numbers from -1 to 10 of at most so many values may be ratings."""
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


def find_roles(
    tables: Mapping[str, Sampled], given: Mapping[str, Mapping[str, str]], unit: str | None = None
) -> dict[str, dict[str, Found]]:
    """Return for each table our name -> the column, as far as there is one.

    Parameters
    ----------
    given
        For each table our name -> the file's name, where the user says so.
    unit
        Of the timestamp, where the user says so.

    Raises
    ------
    DataError
        No column can be the user or the item, a given one does not exist, or times can be read in two ways.
    """
    found: dict[str, dict[str, Found]] = {table: _given(tables[table], given.get(table, {}), unit) for table in tables}
    for table in ("users", "items"):
        if table in tables:
            _find_id(tables[table], IDS[table][0], found[table])
    interactions = tables["interactions"]
    _find_timestamp(interactions, found["interactions"], unit)
    for table, name in (("users", Columns.User), ("items", Columns.Item)):
        other = found[table][name].column if table in tables else None
        _find_reference(interactions, name, other, found["interactions"])
    _find_by_name(interactions, Columns.Rating, ("integer", "float"), found["interactions"])
    _find_unnamed_rating(interactions, found["interactions"])
    _find_by_name(interactions, Columns.Event, ("integer", "string"), found["interactions"], KINDS)
    if "items" in tables:
        _find_by_name(tables["items"], Columns.Title, ("string",), found["items"])
        _find_unnamed_title(tables["items"], found["items"])
    if Columns.Title not in found.get("items", {}):
        _find_title(interactions, found["interactions"])
    return found


def name_score(column: str, role: str) -> int:
    """Return how well a name says that a column has a role: 0 not, then better and better."""
    parts = parts_of(column)
    if column.lower() == role or "".join(parts) == role.replace("_", ""):
        return 9
    wanted = WORDS[role].split()
    hits = [part for part in parts if part in wanted]
    if not hits:
        return 0
    is_id = role in (Columns.User, Columns.Item)
    named_id = any(part in NAMING_IDS for part in parts)
    alone = len(parts) == 1
    return 2 + 3 * alone + 2 * (named_id and is_id) - (len(parts) > 3)


def parts_of(column: str) -> list[str]:
    """Return the words of a column's name, in lower case."""
    plain = re.sub(r":(token|float)(_seq)?$", "", column)  # RecBole's headers have types
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    return [part for part in re.split(r"[^a-z0-9]+", spaced.lower()) if part]


def _given(table: Sampled, columns: Mapping[str, str], said: str | None) -> dict[str, Found]:
    found = {}
    names = [one.name for one in table.columns]
    for role, name in columns.items():
        if name not in names:
            raise DataError(
                f"--column {role}={name}: {table.file.path} has no such column; there are: {', '.join(names)}"
            )
        column, unit = table.column(name), None
        if role == Columns.Timestamp:
            unit = said or next(iter(_units(column)), None)
            if unit is None:
                example = f", such as {column.values.iloc[0]!r}" if len(column.values) else ""
                raise DataError(
                    f"--column {role}={name}: nothing in it looks like a time{example}; say how it is written: "
                    "--timestamp-unit '%d.%m.%Y %H:%M', or seconds, milliseconds ..."
                )
            _refuse_doubt(column, said)
        found[role] = Found(column, role, "you say so", unit)
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
        by_name += 9 * (other is not None and one.name.lower() == other.name.lower())
        scored.append((10 * (shared >= SHARED) * shared + by_name, by_name, shared, one))
    scored.sort(key=lambda entry: -entry[0])
    if not scored or scored[0][0] <= 0:
        found[role] = _left_over(interactions, able, role)
        return
    _, by_name, shared, best = scored[0]
    whys = [f"called {best.name!r}"] if by_name > 0 else []
    if other is not None:
        whys.append(f"{shared:.0%} of its values are in {other.table}.{other.name}")
    found[role] = Found(best, role, ", ".join(whys))


def _left_over(interactions: Sampled, able: list[Profile], role: str) -> Found:
    """Return the column that is the user or the item where no name says so: one called an id if possible, the first."""

    def is_id(one: Profile) -> int:
        """2 where it is called an id, 1 where it is one of something else, such as of a basket."""
        parts = parts_of(one.name)
        named = bool(parts) and (parts[-1] in NAMING_IDS or parts[-1].endswith("id"))
        return named + (named and not OTHER_IDS & set(parts))

    opposite = Columns.Item if role == Columns.User else Columns.User
    others = (opposite, Columns.Rating, Columns.Timestamp, Columns.Event, Columns.Title)
    left = [one for one in able if one.distinct > 1 and not any(name_score(one.name, other) for other in others)]
    left = [one for one in left if is_id(one) or not (OTHER_IDS & set(parts_of(one.name)) or _is_prose(one))]
    if not left:
        names = ", ".join(one.name for one in interactions.columns)
        raise DataError(
            f"{interactions.file.path}: no column looks like the {role}; there are: {names}; say which it is: "
            f"--column {role}=NAME"
            + ", or what stands between the fields: --delimiter"
            * (len(interactions.columns) == 1)
        )
    best = max(left, key=is_id)
    return Found(best, role, f"a guess: {'called like an id' if is_id(best) else 'the first column'} that is left")


def _is_prose(column: Profile) -> bool:
    return column.dtype == "string" and float(column.values.iloc[:1000].str.count(" ").mean()) >= 1


def _find_timestamp(table: Sampled, found: dict[str, Found], said: str | None) -> None:
    if Columns.Timestamp in found:
        return
    best: tuple[int, Found] | None = None
    for one in table.columns:
        score = name_score(one.name, Columns.Timestamp)
        unit = next(iter(_units(one)), None)
        # A number is a time only where its name says so too, or where it is long enough to be nothing else.
        enough = 0.5 if table.file.header else 0.05
        if unit is None or (not score and unit in PER_SECOND and one.distinct < enough * len(one.values)):
            continue
        if unit == "%Y%m%d" and not score:
            continue
        if best is None or score > best[0]:
            called = f"called {one.name!r}, " if score else ""
            best = score, Found(one, Columns.Timestamp, called + _why(one, said or unit), said or unit)
    if best:
        _refuse_doubt(best[1].column, said)
        found[Columns.Timestamp] = best[1]


def _refuse_doubt(column: Profile, said: str | None) -> None:
    """Raise DataError where times can be read in two ways and the user does not say which is meant."""
    units = _units(column)
    if said or len(units) < 2:
        return
    values = column.values.astype(str)
    example = next((one for one in values if len({shown(one, unit) for unit in units}) > 1), values.iloc[0])
    ways = " or ".join(f"{shown(example, unit)} (--timestamp-unit {unit!r})" for unit in units)
    raise DataError(f"{column.table}: column {column.name!r}: {example!r} is {ways}; say which")


def _find_unnamed_rating(table: Sampled, found: dict[str, Found]) -> None:
    """Without a header, a rating is told by its few small numbers."""
    taken = {one.column.name for one in found.values()}
    if table.file.header or Columns.Rating in found:
        return
    for one in table.columns:
        if one.dtype in ("integer", "float") and one.name not in taken and 1 < one.distinct <= FEW_RATINGS:
            low, high = float(one.values.min()), float(one.values.max())
            if low >= -1 and high <= 10:
                why = f"a guess: {one.distinct} numbers, {low:g} to {high:g}"
                found[Columns.Rating] = Found(one, Columns.Rating, why)
                return


def _find_unnamed_title(table: Sampled, found: dict[str, Found]) -> None:
    """Take the first text of several words for the title, where there is no header to say so."""
    texts = [one for one in table.columns if one.dtype == "string" and _is_prose(one)]
    if texts and not table.file.header and Columns.Title not in found:
        found[Columns.Title] = Found(texts[0], Columns.Title, "a guess: the first text of several words")


def _find_title(table: Sampled, found: dict[str, Found]) -> None:
    """Find a text of the interactions that is called so, and is nearly always the same for an item."""
    _find_by_name(table, Columns.Title, ("string",), found)
    title, item = found.get(Columns.Title), found[Columns.Item].column
    if title is None:
        return
    rows = pd.DataFrame({"item": item.values, "title": title.column.values}).dropna()
    few = rows.groupby("item")["title"].nunique().mean() < 1.5 if len(rows) else False
    if few and title.column.name != item.name:
        found[Columns.Title] = title._replace(why=f"{title.why}, nearly the same in all rows of an item")
    else:
        del found[Columns.Title]


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


def _units(column: Profile) -> list[str]:
    """Return the units that fit a column of times: none for other columns, two where it can be read in two ways."""
    if column.dtype == "datetime":
        return ["datetime"]
    if column.dtype in ("integer", "float") and len(column.values):
        return _numeric_units(column)
    return readings(column.values) if column.dtype == "string" else []


def _numeric_units(column: Profile) -> list[str]:
    low, high = column.values.quantile(0.05), column.values.quantile(0.95)
    for unit, per_second in PER_SECOND.items():
        if PLAUSIBLE[0] * per_second <= low and high <= PLAUSIBLE[1] * per_second:
            return [unit]
    if column.dtype == "integer" and column.values.between(19_900_101, 21_000_101).all():
        return readings(column.values.astype(str))
    return []


def _why(column: Profile, unit: str) -> str:
    """Return what shows that a column holds times of a unit."""
    if unit == "datetime":
        return "its type is a date and time"
    if unit in PER_SECOND:
        ends = column.values.astype("float64").quantile([0.05, 0.95]) / PER_SECOND[unit]
        years = {pd.Timestamp(int(value), unit="s").year for value in ends}
        return f"as {unit} its values are {' to '.join(map(str, sorted(years)))}"
    return f"its values look like {str(column.values.iloc[0])!r}"
