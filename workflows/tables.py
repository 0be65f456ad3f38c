"""The three tables that every source yields, valid or not constructed at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from workflows.columns import Columns
from workflows.diagnostics import DataError
from workflows.files import atomic_directory

TABLES: Final = ("interactions", "users", "items")
MILLISECONDS: Final = 100_000_000_000
"""No second count of ours reaches this (the year 5138); every millisecond count since March 1973 does."""


@dataclass(frozen=True)
class Tables:
    """Interactions, users and items, checked when constructed; rows are 0..n-1 in the order of the source.

    interactions: `user_id`, `item_id` (int64 or str), `rating` float32, `timestamp` int64 seconds since 1970.
    users: `user_id`, unique, then any columns. items: `item_id`, unique, `title` str, then any columns.
    Any column holds numbers, str or None, or lists. Ids have the same type in every table.

    Raises
    ------
    DataError
        A column is missing, of a wrong type, null, out of range or duplicated, or refers to a row that does not
        exist; names table, column, row, value, expectation and remedy.
    """

    interactions: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame

    def __post_init__(self) -> None:
        for table in TABLES:
            _check_frame(table, getattr(self, table))
        _check_ids(self.users, "users", Columns.User)
        _check_ids(self.items, "items", Columns.Item)
        _check_text("items", self.items, Columns.Title)
        _check_rating(self.interactions)
        _check_timestamp(self.interactions)
        _check_reference(self.interactions, self.users, "users", Columns.User)
        _check_reference(self.interactions, self.items, "items", Columns.Item)
        for table in ("users", "items"):
            _check_attributes(table, getattr(self, table))

    def save(self, directory: Path) -> None:
        """Write `interactions.parquet`, `users.parquet`, `items.parquet`: the directory appears whole or not at all."""
        with atomic_directory(directory) as temporary:
            for table in TABLES:
                getattr(self, table).to_parquet(temporary / f"{table}.parquet", engine="pyarrow", index=False)

    @classmethod
    def load(cls, directory: Path) -> Tables:
        """Read what `save` wrote and validate it again.

        Raises
        ------
        DataError
            A file is missing, is not readable parquet, or holds an invalid table; names the file.
        """
        frames = [_read_parquet(directory / f"{table}.parquet") for table in TABLES]
        try:
            return cls(*frames)
        except DataError as error:
            raise DataError(f"{directory}: {error}") from None


def merge_items(tables: Tables, column: str) -> Tables:
    """Make items that agree in `column` one item: the first of them in file order, whose id the interactions take.

    Every interaction stays, in its order. Items whose value is null agree with nobody.

    Raises
    ------
    DataError
        The items have no such column, or it holds lists.
    """
    items = tables.items
    if column not in items.columns:
        known = ", ".join(map(str, items.columns))
        raise DataError(f"items: no column {column!r} to merge on; set merge_items_on to one of {known}")
    if items[column].map(_is_list).any():
        raise DataError(f"items: column {column!r} holds lists; set merge_items_on to a column of single values")
    later = items.duplicated(column) & items[column].notna()
    if not later.any():
        return tables
    firsts = items[~items.duplicated(column)].set_index(column)[Columns.Item]
    heirs = pd.Series(firsts.loc[items.loc[later, column]].to_numpy(), index=items.loc[later, Columns.Item])
    ids = tables.interactions[Columns.Item].copy()
    orphaned = ids.isin(heirs.index)
    ids[orphaned] = heirs.loc[ids[orphaned]].to_numpy()
    return Tables(tables.interactions.assign(**{Columns.Item: ids}), tables.users, items[~later].reset_index(drop=True))


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `retrieval fetch` to make it") from None
    except Exception as error:  # pyarrow's own hierarchy, OSError and UnicodeDecodeError among it
        raise DataError(f"{path}: not a readable parquet file ({error}); run `retrieval fetch` again") from None
    for name in _object_columns(frame):
        frame[name] = pd.Series([_from_arrow(value) for value in frame[name]], index=frame.index, dtype=object)
    return frame


def _from_arrow(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _object_columns(frame: pd.DataFrame) -> list[str]:
    return [str(column) for column in frame.columns if pd.api.types.is_object_dtype(frame[column])]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _fail(table: str, column: str, bad: Iterable[Any], values: pd.Series, expected: str, remedy: str) -> None:
    """Raise for the first row where the boolean array `bad` [n] is true, if there is one."""
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if rows.size:
        value = values.iloc[int(rows[0])]
        shown = value.item() if isinstance(value, np.generic) else value
        more = f" (and {rows.size - 1:,} more rows)" if rows.size > 1 else ""
        raise DataError(
            f"{table}: column {column!r} must be {expected}, got {shown!r} in row {rows[0]}{more}; {remedy}",
        )


def _check_frame(table: str, frame: pd.DataFrame) -> None:
    required = {
        "interactions": (Columns.User, Columns.Item, Columns.Rating, Columns.Timestamp),
        "users": (Columns.User,),
        "items": (Columns.Item, Columns.Title),
    }[table]
    for column in required:
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


def _check_ids(frame: pd.DataFrame, table: str, column: str) -> None:
    """Ids are int64 or str, not null, unique."""
    _check_id_type(frame, table, column)
    _fail(table, column, frame[column].duplicated(), frame[column], "unique", "remove the repeated row")


def _check_id_type(frame: pd.DataFrame, table: str, column: str) -> None:
    ids = frame[column]
    _fail(table, column, ids.isna(), ids, "present in every row", "drop the row or give it an id")
    if ids.dtype == np.int64:
        lowest = np.iinfo(np.int64).min
        _fail(table, column, ids == lowest, ids, f"above {lowest}, which stands for no id", "choose another id")
        return
    if ids.dtype != object:
        raise DataError(
            f"{table}: column {column!r} must be int64 or str, got {ids.dtype}; convert it with astype('int64')",
        )
    _check_text(table, frame, column)
    _fail(table, column, ids == "", ids, "other than the empty string, which stands for no id", "choose another id")


def _check_text(table: str, frame: pd.DataFrame, column: str) -> None:
    wrong = [not isinstance(value, str) for value in frame[column]]
    _fail(table, column, wrong, frame[column], "str in every row", "convert it or fill it in")


def _check_rating(interactions: pd.DataFrame) -> None:
    rating = interactions[Columns.Rating]
    if rating.dtype != np.float32:
        raise DataError(f"interactions: column 'rating' must be float32, got {rating.dtype}; use astype('float32')")
    _fail("interactions", Columns.Rating, ~np.isfinite(rating), rating, "a finite number", "drop or mend the row")


def _check_timestamp(interactions: pd.DataFrame) -> None:
    seconds = interactions[Columns.Timestamp]
    if seconds.dtype != np.int64:
        raise DataError(
            f"interactions: column 'timestamp' must be int64 seconds, got {seconds.dtype}; convert it to whole seconds",
        )
    _fail("interactions", Columns.Timestamp, seconds < 0, seconds, "seconds since 1970, >= 0", "drop or mend the row")
    bad = seconds >= MILLISECONDS
    _fail("interactions", Columns.Timestamp, bad, seconds, "seconds, not milliseconds", "divide the column by 1000")


def _check_reference(interactions: pd.DataFrame, table: pd.DataFrame, name: str, column: str) -> None:
    """Every id of the interactions is in the other table, and of the same type."""
    _check_id_type(interactions, "interactions", column)
    ids, known = interactions[column], table[column]
    if ids.dtype != known.dtype:
        ours, theirs = ("int64" if series.dtype == np.int64 else "str" for series in (ids, known))
        raise DataError(f"interactions: column {column!r} is {ours} but {theirs} in {name}; use one type in both")
    _fail("interactions", column, ~ids.isin(known), ids, f"an id of {name}", f"add it to {name} or drop the row")


def _check_attributes(table: str, frame: pd.DataFrame) -> None:
    """Columns of objects hold str or lists, one or the other, and nulls."""
    for column in _object_columns(frame):
        values = frame[column]
        kind = list if values.map(_is_list).any() else str
        wrong = [not (isinstance(value, kind) or (kind is str and _is_null(value))) for value in values]
        expected = "a list in every row" if kind is list else "str or null"
        _fail(table, column, wrong, values, expected, "give the column one type (an empty list stands for no values)")


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))
