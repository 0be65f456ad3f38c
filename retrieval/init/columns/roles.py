"""Which columns are ids, times, ratings and titles: by name, by type, and by what the tables have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pandas as pd

from retrieval.init.columns.ids import find_id, find_reference, is_prose
from retrieval.init.columns.profile import Found, Profile, Sampled, numbers
from retrieval.init.columns.words import EVENTS, name_score
from retrieval.init.times.formats import WRONG
from retrieval.init.times.timestamps import find_order, find_timestamp, refuse_doubt, units_of
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.plan import IDS

MOST_MISSING: Final = 0.05
"""Share of the rows that may have no rating, and are left out then."""
FEW_RATINGS: Final = 11
"""Without a header, numbers from -1 to 10 of at most so many values may be ratings."""
KINDS: Final = 20
"""A column of events has at most so many different values."""


def find_roles(
    tables: Mapping[str, Sampled], given: Mapping[str, Mapping[str, str]], unit: str | None = None
) -> dict[str, dict[str, Found]]:
    """Return for each table our name -> the column, as far as there is one.

    Where the user says so, `given` has for each table our name -> the file's, and `unit` is that of the timestamp.
    Raise DataError where no column can be the user or the item, a given one is not there, or times can be read in two
    ways.
    """
    roles: dict[str, dict[str, Found]] = {table: _given(tables[table], given.get(table, {}), unit) for table in tables}
    interactions = tables["interactions"]
    for table in ("users", "items"):
        if table in tables:
            find_id(tables[table], IDS[table][0], roles[table], interactions)
    find_timestamp(interactions, roles["interactions"], unit)
    for table, name in (("users", Columns.User), ("items", Columns.Item)):
        other = (tables[table], roles[table][name].column) if table in tables else None
        find_reference(interactions, name, other, roles["interactions"])
    find_order(interactions, roles["interactions"], unit)
    given_rating = Columns.Rating in roles["interactions"]
    _find_by_name(interactions, Columns.Rating, ("number",), roles["interactions"])
    if not given_rating and _is_mostly_missing(roles["interactions"].get(Columns.Rating)):
        del roles["interactions"][Columns.Rating]
    _find_unnamed_rating(interactions, roles["interactions"])
    _find_by_name(interactions, Columns.Event, ("integer", "string"), roles["interactions"], KINDS)
    _find_event(interactions, roles["interactions"])
    if "items" in tables:
        _find_by_name(tables["items"], Columns.Title, ("string",), roles["items"])
        _find_unnamed_title(tables["items"], roles["items"])
    if Columns.Title not in roles.get("items", {}):
        _find_title(interactions, roles["interactions"])
    return roles


def _given(table: Sampled, columns: Mapping[str, str], said: str | None) -> dict[str, Found]:
    roles = {}
    names = [profile.name for profile in table.columns]
    for role, name in columns.items():
        if name not in names:
            raise DataError(
                f"--column {role}={name}: {table.file.path} has no such column; there are: {', '.join(names)}"
            )
        column, unit = table.column(name), None
        if role == Columns.Timestamp:
            unit = said or next(iter(units_of(column)), None)
            if unit is None:
                example = f", such as {column.values.iloc[0]!r}" if len(column.values) else ""
                raise DataError(
                    f"--column {role}={name}: nothing in it looks like a time{example}; say how it is written: "
                    "--timestamp-unit '%d.%m.%Y %H:%M', or days, seconds, milliseconds ..., or order, of places"
                )
            refuse_doubt(column, said)
        roles[role] = Found(column, role, "you say so", unit)
    return roles


def _is_mostly_missing(rating: Found | None) -> bool:
    return rating is not None and rating.column.nulls > MOST_MISSING * rating.column.rows


def _find_event(table: Sampled, roles: dict[str, Found]) -> None:
    """Where no name says so, kinds of events are told by what they are called, such as pv, cart, fav and buy."""
    taken = {place.column.name for place in roles.values()}
    for column in table.columns if Columns.Event not in roles else ():
        if column.name not in taken and column.dtype == "string" and 1 < column.distinct <= KINDS:
            kinds = [*column.values.unique()]
            if sum(str(kind).lower() in EVENTS for kind in kinds) > len(kinds) / 2:
                why = f"a guess: {', '.join(map(str, kinds[:4]))}"
                roles[Columns.Event] = Found(column, Columns.Event, why)
                return


def _find_unnamed_rating(table: Sampled, roles: dict[str, Found]) -> None:
    """Without a header, a rating is told by its few small numbers."""
    taken = {place.column.name for place in roles.values()}
    if table.file.header or Columns.Rating in roles:
        return
    for column in table.columns:
        if column.dtype in ("integer", "float") and column.name not in taken and 1 < column.distinct <= FEW_RATINGS:
            low, high = float(column.values.min()), float(column.values.max())
            if low >= -1 and high <= 10:
                why = f"a guess: {column.distinct} numbers, {low:g} to {high:g}"
                roles[Columns.Rating] = Found(column, Columns.Rating, why)
                return


def _find_unnamed_title(table: Sampled, roles: dict[str, Found]) -> None:
    """Take the first text of several words for the title, where there is no header to say so."""
    texts = [column for column in table.columns if column.dtype == "string" and is_prose(column)]
    if texts and not table.file.header and Columns.Title not in roles:
        roles[Columns.Title] = Found(texts[0], Columns.Title, "a guess: the first text of several words")


def _find_title(table: Sampled, roles: dict[str, Found]) -> None:
    """Find a text of the interactions that is nearly always the same for an item; where there are names, it has one."""
    item = roles[Columns.Item].column
    texts = [column for column in table.columns if column.dtype == "string" and _is_of_item(column, item)]
    _find_by_name(replace(table, columns=texts), Columns.Title, ("string",), roles)
    if title := roles.get(Columns.Title):
        roles[Columns.Title] = title._replace(why=f"{title.why}, nearly the same in all rows of an item")
    elif not table.file.header:
        taken = {place.column.name for place in roles.values()}
        prose = (column for column in texts if column.name not in taken and is_prose(column))
        if text := next((column for column in prose if column.distinct > 0.5 * item.distinct), None):
            roles[Columns.Title] = Found(text, Columns.Title, "a guess: a text, nearly the same in all rows of an item")


def _is_of_item(text: Profile, item: Profile) -> bool:
    """Return whether a text is nearly always the same for an item."""
    rows = pd.DataFrame({"item": item.values, "title": text.values}).dropna()
    return text.name != item.name and len(rows) > 0 and bool(rows.groupby("item")["title"].nunique().mean() < 1.5)


def _is_of(column: Profile, types: tuple[str, ...]) -> bool:
    """Return whether a column is of one of the types; a `number` may be text, but for a few rows."""
    return column.dtype in types or ("number" in types and numbers(column).isna().mean() < WRONG)


def _find_by_name(
    table: Sampled, role: str, types: tuple[str, ...], roles: dict[str, Found], most: float = math.inf
) -> None:
    """Find a column that is called so and has more than one different value, and at most so many."""
    taken = {place.column.name for place in roles.values()}
    able = [
        column
        for column in table.columns
        if name_score(column.name, role)
        and column.name not in taken
        and 1 < column.distinct <= most
        and _is_of(column, types)
    ]

    def score(column: Profile) -> tuple[int, int]:
        """Of two titles the one that tells more apart: a beer's name rather than its brewery's."""
        return name_score(column.name, role), column.distinct if role == Columns.Title else 0

    best = max(able, key=score, default=None)
    if role not in roles and best is not None:
        roles[role] = Found(best, role, f"called {best.name!r}")
