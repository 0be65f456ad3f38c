"""What holds of the three tables, checked column by column at the speed of C; the slow look is for the error only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.operators.times import MILLISECONDS

REQUIRED: Final = {
    "interactions": (Columns.User, Columns.Item, Columns.Rating, Columns.Timestamp),
    "users": (Columns.User,),
    "items": (Columns.Item, Columns.Title),
}


def check_users(users: pd.DataFrame) -> None:
    """Check the users: a frame with unique ids and attributes of one type each.

    Raises
    ------
    DataError
        Names table, column, row, value, expectation and remedy. So do the other checks.
    """
    _check_frame("users", users)
    _check_unique(users, "users", Columns.User)
    _check_attributes("users", users)


def check_items(items: pd.DataFrame) -> None:
    """Check the items: a frame with unique ids, titles and attributes of one type each."""
    _check_frame("items", items)
    _check_unique(items, "items", Columns.Item)
    _check_text(Columns.Title, items[Columns.Title], "items", 0)
    _check_attributes("items", items)


class InteractionsCheck:
    """Checks interactions, a chunk at a time, against users and items that were checked before."""

    def __init__(self, users: pd.DataFrame, items: pd.DataFrame) -> None:
        self._known: dict[str, tuple[str, Any]] = {
            Columns.User: ("users", pd.Index(users[Columns.User])),
            Columns.Item: ("items", pd.Index(items[Columns.Item])),
        }
        self.rows = 0
        """How many rows were checked: the number of the next chunk's first row."""

    def check(self, chunk: pd.DataFrame) -> None:
        """Check the next rows; their index must be 0..n-1, and rows are counted over all chunks."""
        _check_frame("interactions", chunk)
        _check_rating(chunk[Columns.Rating], self.rows)
        _check_timestamp(chunk[Columns.Timestamp], self.rows)
        for column, (name, known) in self._known.items():
            self._check_reference(chunk[column], name, known)
        self.rows += len(chunk)

    def _check_reference(self, ids: pd.Series, name: str, known: Any) -> None:
        """Every id of the interactions is in the other table, and of the same type."""
        column = str(ids.name)
        _check_ids(column, ids, "interactions", self.rows)
        if ids.dtype != known.dtype:
            ours, theirs = ("int64" if values.dtype == np.int64 else "str" for values in (ids, known))
            raise DataError(f"interactions: column {column!r} is {ours} but {theirs} in {name}; use one type in both")
        unknown = known.get_indexer(pd.Index(ids)) < 0
        expected = f"an id of {name}", f"add it to {name} or drop the row"
        _refuse("interactions", column, unknown, ids, *expected, first=self.rows)


def _refuse(
    table: str, column: str, bad: Any, values: pd.Series, expected: str, remedy: str, *, first: int = 0
) -> None:
    """Raise for the first row where the boolean array `bad` [n] is true, if there is one; `first` numbers row 0."""
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if rows.size:
        value = values.iloc[int(rows[0])]
        shown = value.item() if isinstance(value, np.generic) else value
        more = f" (and {rows.size - 1:,} more rows)" if rows.size > 1 else ""
        raise DataError(
            f"{table}: column {column!r} must be {expected}, got {shown!r} in row {first + rows[0]}{more}; {remedy}",
        )


def _check_frame(table: str, frame: pd.DataFrame) -> None:
    for column in REQUIRED[table]:
        if column not in frame.columns:
            present = ", ".join(map(str, frame.columns)) or "none"
            raise DataError(f"{table}: column {column!r} is missing (there are: {present}); add or rename it")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{table}: two columns are named {twice!r}; rename one of them")
    if frame.empty:
        raise DataError(f"{table}: has no rows; expected at least one; check the source")
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        raise DataError(f"{table}: the index must be 0..{len(frame) - 1}; call reset_index(drop=True) first")


def _check_unique(frame: pd.DataFrame, table: str, column: str) -> None:
    ids = frame[column]
    _check_ids(column, ids, table, 0)
    if ids.dtype == object:  # pandas takes strings for equal that are so up to a NUL
        nul = np.fromiter(("\0" in key for key in ids), dtype=bool, count=len(ids))
        _refuse(table, column, nul, ids, "text without NUL characters", "take them out of the id")
    _refuse(table, column, ids.duplicated(), ids, "unique", "remove the repeated row")


def _check_ids(column: str, ids: pd.Series, table: str, first: int) -> None:
    """Ids are int64 or str, and not null."""
    _refuse(table, column, ids.isna(), ids, "present in every row", "drop the row or give it an id", first=first)
    none: int | str = int(np.iinfo(np.int64).min)
    if ids.dtype == np.int64:
        expected = f"above {none}"
    elif ids.dtype == object:
        none, expected = "", "other than the empty string"
        _check_text(column, ids, table, first)
    else:
        raise DataError(
            f"{table}: column {column!r} must be int64 or str, got {ids.dtype}; convert it with astype('int64')",
        )
    _refuse(table, column, ids == none, ids, f"{expected}, which stands for no id", "choose another id", first=first)


def _check_text(column: str, values: pd.Series, table: str, first: int) -> None:
    bad = _other_than(values, lambda kind: issubclass(kind, str))
    _refuse(table, column, bad, values, "str in every row", "convert it or fill it in", first=first)


def _check_rating(rating: pd.Series, first: int) -> None:
    if rating.dtype != np.float32:
        raise DataError(f"interactions: column 'rating' must be float32, got {rating.dtype}; use astype('float32')")
    bad = ~np.isfinite(rating.to_numpy())
    _refuse("interactions", Columns.Rating, bad, rating, "a finite number", "drop or correct the row", first=first)


def _check_timestamp(seconds: pd.Series, first: int) -> None:
    if seconds.dtype != np.int64:
        raise DataError(
            f"interactions: column 'timestamp' must be int64 seconds, got {seconds.dtype}; convert it to whole seconds",
        )
    name = "interactions", Columns.Timestamp
    _refuse(*name, seconds < 0, seconds, "seconds since 1970, >= 0", "drop or correct the row", first=first)
    bad = seconds >= MILLISECONDS
    _refuse(*name, bad, seconds, "seconds, not milliseconds", "divide the column by 1000", first=first)


def _check_attributes(table: str, frame: pd.DataFrame) -> None:
    """Columns of objects hold str or lists, one or the other, and nulls."""
    for column in frame.select_dtypes("object").columns:
        values = frame[column]
        lists = list in set(map(type, values))
        bad = _other_than(values, lambda kind: kind is list) if lists else _neither_text_nor_null(values)
        expected = "a list in every row" if lists else "str or null"
        _refuse(table, column, bad, values, expected, "give the column one type (an empty list stands for no values)")


def _neither_text_nor_null(values: pd.Series) -> npt.NDArray[np.bool_]:
    bad = _other_than(values, lambda kind: issubclass(kind, str) or kind in (type(None), type(pd.NA)))
    bad[bad] = [not (isinstance(value, float) and np.isnan(value)) for value in values[bad]]
    return bad


def _other_than(values: pd.Series, allowed: Callable[[type], bool]) -> npt.NDArray[np.bool_]:
    """Return which of the objects, [n], have a type that is not allowed."""
    wrong = {kind for kind in set(map(type, values)) if not allowed(kind)}
    if not wrong:
        return np.zeros(len(values), dtype=bool)
    return np.fromiter((type(value) in wrong for value in values), dtype=bool, count=len(values))
