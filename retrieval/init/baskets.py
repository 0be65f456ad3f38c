"""Interactions of a row per user: a column that holds the list of the user's items."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from retrieval.init.columns.profile import Profile, Sampled, holds_objects, read_sample
from retrieval.init.columns.words import name_score
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import locate

TRIED: Final = 1_000
MANY_LISTS: Final = 20
"""So many lists in one object are rather of a user each than a column each."""
BRACKETS: Final = r"\s*[\[({].*[\])}]\s*"
LISTS: Final = {sign: rf"\s*[\w.-]+(\s*{re.escape(sign)}\s*[\w.-]+)+\s*" for sign in (",", "|", ";")} | {
    " ": r"\s*\d+(\s+\d+)+\s*"
}
"""Texts of at least two entries, and what stands between them; words with spaces are a text."""
THOUSANDS: Final = r"\s*\d{1,3}(,\d{3})*\s*"
"""Numbers such as 1,106, which are one entry."""
IMPRESSIONS: Final = r"\s*\S+-[01](\s+\S+-[01])*\s*"
"""What was shown, each with whether it was clicked."""
CLICKED: Final = "-1"


def exploded(interactions: Sampled, given: Mapping[str, Mapping[str, str]], rows: int) -> Sampled:
    """Return interactions with a row for each entry of the lists that hold the items, if that is what they are.
    Raise DataError where all rows are in one object, which has a list for each column or for each user."""
    _refuse_one_object(interactions)
    said = given.get("interactions", {}).get(Columns.Item)
    single = [
        profile
        for profile in interactions.columns
        if profile.dtype in ("integer", "string") and _separator(profile) is None
    ]
    able = [profile for profile in interactions.columns if profile.dtype == "list" or _separator(profile) is not None]
    able = [
        profile
        for profile in able
        if said in (None, profile.name)
        and not holds_objects(profile)
        and (profile.dtype == "list" or _is_called_so(profile, interactions))
    ]
    if not able:
        return interactions
    column = max(able, key=_score)
    named = max(map(_score, single), default=0)
    if said is None and named > 0 and named >= _score(column):
        return interactions
    separator = _separator(column)
    options: dict[str, Any] = {"explode": column.name, "columns": {Columns.Item: column.name}}
    options |= {"lists": {Columns.Item: separator}} if separator else {}
    note = f"each entry of {column.name!r} is an item: a row of its own"
    if _shows_clicks(column):
        options["explode_only"] = CLICKED
        note = f"each entry of {column.name!r} that ends with {CLICKED!r} is an item that was clicked: a row of its own"
        # A first column that differs in every row is the impression's number, and no user.
        options["ignore"] = tuple(profile.name for profile in interactions.columns[:1] if profile.is_unique)
    located = locate(replace(interactions.file, **options), interactions.table)
    return read_sample(located, rows, [*interactions.notes, note])


def _refuse_one_object(interactions: Sampled) -> None:
    path, lists = interactions.file.path, [column.name for column in interactions.columns if column.dtype == "list"]
    if not lists or not interactions.whole or interactions.rows > 1:
        return
    unnested = ", ".join(f'unnest("{name}", recursive := true)' for name in lists)
    query = f"SELECT {unnested} FROM {path!r}"
    if len(lists) > MANY_LISTS:
        query = f"UNPIVOT {path!r} ON COLUMNS(*) INTO NAME user_id VALUE items"
    raise DataError(
        f"{path}: is one object for all rows; make rows of it with DuckDB: COPY ({query}) TO 'rows.parquet'"
    )


def _score(column: Profile) -> int:
    return name_score(column.name, Columns.Item)


def _is_called_so(column: Profile, interactions: Sampled) -> bool:
    """Text is taken for a list of items where it is called so, or stands in brackets, or is all that there is."""
    bracketed = column.values.iloc[:TRIED].str.fullmatch(BRACKETS).mean() > 0.95
    named = name_score(column.name, Columns.Item) > 0 or len(interactions.columns) == 2
    return bool(bracketed) or named or _shows_clicks(column)


def _shows_clicks(column: Profile) -> bool:
    """Return whether a column holds impressions, such as `N1-0 N2-1`."""
    if column.dtype != "string" or not len(column.values):
        return False
    texts = column.values.iloc[:TRIED]
    return bool(texts.str.fullmatch(IMPRESSIONS).all() and texts.str.contains(r"-1(?:\s|$)").any())


def _separator(column: Profile) -> str | None:
    """Return what stands between the entries of text that holds lists."""
    if column.dtype != "string" or not len(column.values):
        return None
    if _shows_clicks(column):
        return " "
    texts = column.values.iloc[:TRIED]
    if texts.str.fullmatch(THOUSANDS).all():
        return None
    bare = texts.str.replace(r"[\[\](){}'\"]", "", regex=True)
    shares = {sign: float(bare.str.fullmatch(pattern).mean()) for sign, pattern in LISTS.items()}
    best = max(shares, key=lambda sign: shares[sign])
    return best if shares[best] > (0.2 if texts.str.fullmatch(BRACKETS).mean() > 0.95 else 0.6) else None
