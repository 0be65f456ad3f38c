"""Reserved names of the served models, and which names are left for columns of a query.

Recipes are checked against this list when they are read, releases when they are written and loaded, and so is every
model configuration.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .errors import InvalidRelease

CONTROLS = ("top_k", "exclude_item_ids", "include_seen", "filter", "history_item_ids", "history_timestamps")
"""The inputs of a request that are no query column."""
KNOWN = "user_known"
RELEASE = "release"
"""Output [rows, 1]: the id of the release that answered; made only for requests that ask for it."""
ANSWER = ("item_id", "score", "count", KNOWN, RELEASE)
"""What an answer consists of."""
FEATURES = "features"
"""All features of a row, packed: one tensor between two processes costs less than one for each."""
USER_ROW = "user_row"
"""Row of the user in the release's users table, -1 for an unknown user."""
VECTOR = "vector"
"""What both towers make."""
CANDIDATES = "candidates"
"""Rows of the items that were retrieved, best first, -1 past the last; goes to a ranker."""
LEAST = "least_score"
"""The score that a row's answers must have at least; goes to a ranker."""
QUERY_VECTOR, ITEM_SIDES = "ranking_vector", "ranking_items"
"""Inputs of a ranker's graph besides the query's features."""
_USES = {
    **dict.fromkeys(CONTROLS, "an input of every request"),
    **dict.fromkeys(ANSWER, "a part of every answer"),
    **dict.fromkeys((FEATURES, USER_ROW, VECTOR, CANDIDATES, LEAST), "what goes from one served model to the next"),
    **dict.fromkeys((QUERY_VECTOR, ITEM_SIDES), "an input of the ranker"),
}
RESERVED = frozenset(_USES)
"""What no column of a query, and no feature of one, may be called."""
SUFFIXES = ("__values", "__offsets")
"""Merlin calls the two arrays of a column of lists so."""
_COLUMN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ -]{0,127}")
_FEATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def wrong_column(name: str) -> str | None:
    """Return why `name`, which names an input and files, cannot be a raw query column; None: it can."""
    if not _COLUMN.fullmatch(name):
        return "an input of the served model has a name of up to 128 letters of ASCII, digits, blanks, _ and -"
    return _taken(name)


def wrong_feature(name: str, query: bool = True) -> str | None:
    """Return why `name` cannot be a feature of the query, or of the items; None: it can."""
    if not _FEATURE.fullmatch(name):
        return "a tower's input has a name of up to 128 letters of ASCII, digits, _, . and -"
    return _taken(name) if query or name == VECTOR else _merlins(name)


def check_query(columns: Iterable[str], features: Iterable[str], where: str) -> None:
    """Raise InvalidRelease, with `where`, unless these can be the names of a query's columns and features."""
    named = {"input": list(columns), "feature": list(features)}
    for what, names in named.items():
        check_distinct(names, f"{where}: {what}s")
        for name in names:
            reason = wrong_column(name) if what == "input" else wrong_feature(name)
            if reason:
                raise InvalidRelease(f"{where}: {what} {name[:128]!r}: {reason}; rename it and release it again")


def check_distinct(names: Iterable[str], where: str) -> None:
    """Raise InvalidRelease, with `where`, for a duplicate name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InvalidRelease(f"{where}: {twice[:128]!r} is there twice; rename one and release it again")


def _taken(name: str) -> str | None:
    use = _USES.get(name)
    return f"the name is taken: it is {use}" if use else _merlins(name)


def _merlins(name: str) -> str | None:
    end = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    return f"Merlin gives names that end with {end} to the arrays of lists" if end else None
