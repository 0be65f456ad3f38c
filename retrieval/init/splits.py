"""How rows are split: as a column says, or as suits the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from retrieval.init.columns.profile import Found, Profile, Sampled
from retrieval.init.columns.words import name_score
from retrieval.init.times.timestamps import ROWS, not_read, seconds_of
from retrieval.recipes.toml import inline
from workflows.columns import Columns
from workflows.config import TemporalSplit
from workflows.errors import DataError
from workflows.tables.splits import NUMBERS
from workflows.tables.splits import split as split_rows

TOO_MANY_NEW: Final = 0.3
"""Beyond this share of test rows of users that nothing is known of, another split is chosen."""


def given_split(interactions: Sampled, said: str | None) -> tuple[str, str] | None:
    """Return the split that a column names, and why; None where none does. Raise DataError for one not there."""
    names = [column.name for column in interactions.columns]
    if said is not None and said not in names:
        raise DataError(
            f"--split-column {said}: {interactions.file.path} has no such column; there are: {', '.join(names)}"
        )
    name = said or next((column.name for column in interactions.columns if _names_parts(column)), None)
    if name is None:
        return None
    why = "you say so" if said else f"column {name!r} says which part each row is in"
    return inline({"kind": "given", "column": name}), why


def _names_parts(column: Profile) -> bool:
    if column.dtype != "string" or column.distinct > len(NUMBERS):
        return False
    values = {str(value).strip().lower() for value in column.values.unique()}
    return values <= {*NUMBERS} and {0, 2} <= {NUMBERS[value] for value in values}


def proposed_split(interactions: Sampled, roles: Mapping[str, Found]) -> tuple[str, str]:
    """Return the recipe's split, and why."""
    random = '{ kind = "random", test = 0.2, validation = 0.1, seed = 42 }'
    if Columns.Timestamp not in roles:
        named = (column for column in interactions.columns if name_score(column.name, Columns.Timestamp))
        return random, "; ".join(["there is no time to split by", *map(not_read, named)])
    temporal, last = '{ kind = "temporal", test = 0.1, validation = 0.1 }', '{ kind = "leave-last-out" }'
    if roles[Columns.Timestamp].unit == "order" and roles[Columns.Timestamp].column.name != ROWS:
        return last, "places among a user's own rows do not say which user came first"
    if not interactions.whole:
        return temporal, "the past is learned from, the future is the test"
    rows = _rows(roles)
    new = _new_users(rows)
    if new <= TOO_MANY_NEW:
        return temporal, f"the past is learned from, the future is the test; {new:.0%} of it is of new users"
    if (rows.groupby(Columns.User).size() >= 3).mean() >= 0.5:
        return last, f"by time {new:.0%} of the test would be of users never seen before"
    return random, f"by time {new:.0%} of the test would be of new users, and most users have less than three rows"


def _rows(roles: Mapping[str, Found]) -> pd.DataFrame:
    """Return user and time of the sampled rows that have both; times only in their order."""
    user, time = roles[Columns.User].column.values, roles[Columns.Timestamp].column.values
    if time.dtype == object:  # numbers and dates are in the order of the times
        time = seconds_of(roles[Columns.Timestamp])
    rows = pd.DataFrame({Columns.User: user, Columns.Timestamp: time}).dropna()
    return rows.assign(**{Columns.Timestamp: pd.factorize(rows[Columns.Timestamp], sort=True)[0]}).reset_index(
        drop=True
    )


def _new_users(rows: pd.DataFrame) -> float:
    try:
        parts = split_rows(rows, TemporalSplit())
    except DataError:
        return 0.0
    known = set(rows[Columns.User].iloc[parts.train])
    return float((~rows[Columns.User].iloc[parts.test].isin(known)).mean())
