"""Which columns are the users and the items: by name, and by what the tables have in common."""

from __future__ import annotations

import re
from typing import Final

import pandas as pd

from retrieval.init.columns.profile import Found, Profile, Sampled, holds_objects
from retrieval.init.columns.words import NAMING_IDS, OTHER_IDS, name_score, parts_of
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.formats.sniff import WIDE

SHARED: Final = 0.5
"""Two columns that have this share of their values in common hold the same ids."""
MOSTLY_MISSING: Final = 0.5
FEW: Final = 2
COVERED: Final = 0.05
"""Share of the other table's ids that have to be named."""
MANY_ROWS: Final = 100
"""In a table of so many rows, what differs in each is the row's own number, and what has two values is no id."""
UNNAMED: Final = re.compile(r"column\d+")
"""What columns are called where text has no header."""
SHOWN: Final = 20
"""Names of columns in a message."""
PRODUCT: Final = r"B0[0-9A-Z]{8}|[0-9]{9}[0-9X]"
REVIEWER: Final = r"A[0-9A-Z]{9,30}"
"""Amazon's reviewers, beside its products: its files without a header begin with either."""
Scored = tuple[float, int, float, Profile]
"""A column that may be the user or the item: how likely it is, by its name too, and its share of values elsewhere."""
CLOCK: Final = r"\s*\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s?[AaPp][Mm])?\s*"


def find_id(table: Sampled, role: str, roles: dict[str, Found], interactions: Sampled) -> None:
    """Find the id of users or items: unique in every row if possible, and called so, best as in the interactions."""
    if role in roles:
        return
    able = [column for column in table.columns if _can_be_id(column)]
    there = {column.name.lower() for column in interactions.columns}
    if not able:
        raise DataError(f"{table.file.path}: no column of integers or strings that can be the {role}")

    def score(column: Profile) -> int:
        """`id` alone is the id of its table."""
        named = max(name_score(column.name, role), 8 * (column.name.lower() == "id"))
        return named + 4 * column.is_unique + 9 * (named > 0 and column.name.lower() in there)

    best = max(able, key=score)
    unique = "unique in every row" if best.is_unique else f"{best.rows - best.distinct:,} rows repeat an id"
    called = f"called {best.name!r}, " if name_score(best.name, role) else ""
    roles[role] = Found(best, role, called + unique)


def find_reference(
    interactions: Sampled, role: str, other: tuple[Sampled, Profile] | None, roles: dict[str, Found]
) -> None:
    """Find the user or item of the interactions: its values are ids of the `other` table, or it is called so."""
    if role in roles:
        return
    taken = {role_of.column.name for role_of in roles.values()}
    able = [column for column in interactions.columns if _can_be_id(column) and column.name not in taken]
    scored: list[Scored] = [(*_score(column, role, other[1] if other else None), column) for column in able]
    scored.sort(key=lambda entry: -entry[0])
    if other is not None and (not scored or scored[0][1] <= 0):
        _refuse_without_key(interactions, role, *other)
    if not scored or scored[0][0] <= 0:
        roles[role] = _left_over(interactions, able, role)
        return
    _, by_name, shared, best = _present(scored)
    whys = [f"called {best.name!r}"] if by_name > 0 else []
    if best is not scored[0][3]:
        whys.append(f"{scored[0][3].name!r} is missing in most rows")
    if other is not None:
        share, place = f"{shared:.0%} of its values are in", f"{other[1].table}.{other[1].name}"
        few = f"only {share} {place}: is {other[0].file.path} the right file?"
        whys.append(few if shared < SHARED else f"{share} {place}")
    roles[role] = Found(best, role, ", ".join(whys))


def _present(scored: list[Scored]) -> Scored:
    """Return the best column, or the next that fits where it is missing in most rows, such as a user in sessions."""
    fitting = [entry for entry in scored if entry[0] > 0 and entry[3].nulls <= MOSTLY_MISSING * entry[3].rows]
    return (fitting or scored)[0]


def _score(column: Profile, role: str, other: Profile | None) -> tuple[float, int, float]:
    """Return how likely a column is the user or item; by its name, and by the share of its values in `other`."""
    by_name = name_score(column.name, role) - name_score(column.name, _opposite(role))
    if other is None:
        return by_name, by_name, 0.0
    by_name += 9 * (column.name.lower() == other.name.lower() and not UNNAMED.fullmatch(column.name))
    shared = _shared(column, other)
    # A handful of small numbers are ids of any table.
    enough = shared >= SHARED and (by_name > 0 or column.distinct > max(FEW, COVERED * other.distinct))
    return 10 * enough * shared + by_name, by_name, shared


def _opposite(role: str) -> str:
    return Columns.Item if role == Columns.User else Columns.User


def _refuse_without_key(interactions: Sampled, role: str, table: Sampled, other: Profile) -> None:
    """Raise DataError where the interactions have no user or item, but the key of rows of the table that has one."""
    there = {column.name.lower() for column in table.columns if column.name != other.name and column.is_unique}
    named = [column.name for column in interactions.columns if not UNNAMED.fullmatch(column.name)]
    key = next((name for name in named if name.lower() in there), None)
    if key is not None:
        first, second = interactions.file.path, table.file.path
        raise DataError(
            f"{first}: no column looks like the {role}; {second} has {other.name!r}, and both have {key!r}: join them "
            f"first, such as with DuckDB: COPY (FROM '{first}' JOIN '{second}' USING ({key})) TO 'joined.parquet'"
        )


def _left_over(interactions: Sampled, able: list[Profile], role: str) -> Found:
    """Return the column that is the user or the item where no name says so: one called an id if possible, the first."""

    def is_id(column: Profile) -> int:
        """2 where it is called an id, 1 where it is one of something else, such as of a basket."""
        parts = parts_of(column.name)
        named = bool(parts) and (parts[-1] in NAMING_IDS or parts[-1].endswith("id"))
        return named + (named and not OTHER_IDS & set(parts))

    others = (_opposite(role), Columns.Rating, Columns.Timestamp, Columns.Event, Columns.Title)
    left = [
        column for column in able if column.distinct > 1 and not any(name_score(column.name, other) for other in others)
    ]
    left = [column for column in left if column.rows < MANY_ROWS or (not column.is_unique and column.distinct > FEW)]
    if role == Columns.Item:
        left = [column for column in left if not OTHER_IDS & set(parts_of(column.name))]
    left = [
        column for column in left if is_id(column) or not (OTHER_IDS & set(parts_of(column.name)) or _is_remark(column))
    ]
    if not left or (role == Columns.Item and _is_matrix(interactions.columns)):
        columns = interactions.columns
        names = ", ".join(column.name for column in columns[:SHOWN]) + (", ..." if len(columns) > SHOWN else "")
        found = f"{interactions.file.path}: no column looks like the {role}; there are: {names}"
        raise DataError(f"{found}; {_remedy(interactions, role)}")
    products, reviewers = ([column for column in left if _is_like(column, form)] for form in (PRODUCT, REVIEWER))
    if role == Columns.User and products and reviewers:
        return Found(reviewers[0], role, f"a guess: {reviewers[0].values.iloc[0]!r} is like Amazon's reviewers")
    best = max(left, key=is_id)
    return Found(best, role, f"a guess: {'called like an id' if is_id(best) else 'the first column'} that is left")


def _is_like(column: Profile, form: str) -> bool:
    return column.dtype == "string" and bool(column.values.iloc[:1000].str.fullmatch(form).mean() > 0.95)


def _remedy(interactions: Sampled, role: str) -> str:
    """Return what would bring rows of one user and one item: DuckDB has a word for most."""
    columns, path = interactions.columns, interactions.file.path
    made = "with DuckDB: COPY ({}) TO 'rows.parquet'"
    within = [f'"{column.name}"' for column in columns if holds_objects(column)]
    if within:
        unnested = ", ".join(f"unnest({name}, recursive := true)" for name in within)
        others = f"* EXCLUDE ({', '.join(within)}), " if len(within) < len(columns) else ""
        query = f"SELECT {others}{unnested} FROM {path!r}"
        return f"{', '.join(within)}: objects; make columns of what is in them, {made.format(query)}"
    if _is_matrix(columns):
        query = f'UNPIVOT {path!r} ON COLUMNS(* EXCLUDE ("{columns[0].name}")) INTO NAME item_id VALUE rating'
        name = f"say which it is: --column {role}=NAME"
        return f"{name}; a matrix with a column for each item becomes rows {made.format(query)}"
    delimiter = ", or what stands between the fields: --delimiter" * (len(columns) == 1)
    return f"say which it is: --column {role}=NAME{delimiter}"


def _is_matrix(columns: list[Profile]) -> bool:
    numbers = sum(column.dtype in ("integer", "float") for column in columns)
    return len(columns) > WIDE and numbers > 0.9 * len(columns)


def is_prose(column: Profile) -> bool:
    """Return whether texts have several words."""
    return column.dtype == "string" and float(column.values.iloc[:1000].str.count(" ").mean()) >= 1


def _is_remark(column: Profile) -> bool:
    """Return whether texts of several words say something of their row alone: names of items come again and again."""
    return is_prose(column) and column.distinct > 0.5 * len(column.values)


def is_clock(column: Profile) -> bool:
    """Return whether a column holds times of day."""
    if column.dtype.startswith("time"):  # Arrow's time32 and time64
        return True
    return column.dtype == "string" and bool(column.values.iloc[:1000].str.fullmatch(CLOCK).mean() > 0.95)


def _can_be_id(column: Profile) -> bool:
    if column.dtype == "float":  # with nulls, integers become 12.0
        return bool(len(column.values)) and bool((column.values == column.values.round()).all())
    able = column.dtype in ("integer", "string") and column.distinct > 0
    return able and not is_clock(column) and not holds_objects(column)


def _shared(column: Profile, other: Profile) -> float:
    """Return the share of the distinct values of `column` that `other` has, too."""
    distinct = pd.Series(column.values.unique())
    return float(_as_text(distinct).isin(set(_as_text(other.values))).mean()) if len(distinct) else 0.0


def _as_text(values: pd.Series) -> pd.Series:
    return (values.astype("int64") if values.dtype.kind == "f" else values).astype(str)
