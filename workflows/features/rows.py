"""The rows that queries are made of: interactions, a part at a time, each with the columns of its user."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workflows.columns import Columns
from workflows.config import AnySplit, GivenSplit, LeaveLastOutSplit, PlaylistsSplit, TemporalSplit
from workflows.errors import DataError
from workflows.tables.splits import Parts, part_numbers
from workflows.tables.store import Stored, read_arrow, read_part, shared_index, to_frame, to_frame_of_dictionaries

PARTS = ("train", "valid", "test")
_HEAD_ROWS = 1000
_Int64 = npt.NDArray[np.int64]


class Queries(NamedTuple):
    """Where the rows are: small, so that it can be sent to workers, which read them."""

    tables: Path
    parts: tuple[Path, ...]
    rows: tuple[int, ...]
    interactions: tuple[str, ...]
    """Columns that the interactions have and somebody asks for."""
    users: tuple[str, ...]
    """Columns that come from the users: asked for, and not had by the interactions themselves."""

    @classmethod
    def of(cls, stored: Stored, columns_needed: set[str]) -> Queries:
        """Return the rows with the `columns_needed` columns; where one of them does not exist, with all there are."""
        interactions = pq.read_schema(stored.parts[0]).names
        users = [str(column) for column in stored.users.columns if column not in interactions]
        if not columns_needed <= {*interactions, *users}:
            columns_needed = {*interactions, *users}
        own, joined = (tuple(name for name in names if name in columns_needed) for names in (interactions, users))
        return cls(stored.directory, tuple(stored.parts), tuple(stored.rows), own, joined)

    def own(self) -> list[str]:
        """Return the columns of the interactions that `join` needs."""
        key = (Columns.User,) if self.users and Columns.User not in self.interactions else ()
        return [*self.interactions, *key]

    def read(self, number: int) -> pd.DataFrame:
        """Return the rows of a part.

        Raises
        ------
        DataError
            The part is not readable, or refers to a user who does not exist.
        """
        return self.join(to_frame_of_dictionaries(read_arrow(self.parts[number], self.own())), number)

    def join(self, interactions: pd.DataFrame, number: int) -> pd.DataFrame:
        """Return rows of part `number` with the columns of their users."""
        if not self.users:
            return interactions
        rows = self._positions(Columns.User, interactions[Columns.User], number)
        path = self.tables / "users.parquet"
        users = _read_users(path, path.stat().st_mtime_ns)
        joined = users[list(self.users)].iloc[rows].set_axis(interactions.index, axis=0)
        return pd.concat([interactions, joined], axis=1)

    def item_index(self, items: pd.Series, number: int) -> _Int64:
        """Return where the items of rows of part `number` stand in the catalogue, int64 [n]."""
        return self._positions(Columns.Item, items, number)

    def dividing(self, split: AnySplit) -> pd.DataFrame:
        """Return the columns of all interactions that a split looks at; users as int64 codes."""
        columns: dict[str, npt.NDArray[Any]] = {}
        if isinstance(split, GivenSplit):
            columns[Columns.Split] = part_numbers(self.parts, split)
        if isinstance(split, (TemporalSplit, LeaveLastOutSplit, GivenSplit)):
            columns[Columns.Timestamp] = np.concatenate(
                [read_arrow(path, [Columns.Timestamp])[0].to_numpy() for path in self.parts]
            )
        if isinstance(split, (LeaveLastOutSplit, PlaylistsSplit, GivenSplit)):
            columns[Columns.User] = np.concatenate([self._user_codes(number) for number in range(len(self.parts))])
        return pd.DataFrame(columns, index=pd.RangeIndex(sum(self.rows)), copy=False)

    def _user_codes(self, number: int) -> _Int64:
        users = to_frame_of_dictionaries(read_arrow(self.parts[number], [Columns.User]))[Columns.User]
        return self._positions(Columns.User, users, number)

    def first(self, number: int) -> int:
        """Return the number, over all parts, of the first row of a part."""
        return sum(self.rows[:number])

    def _positions(self, column: str, ids: pd.Series, number: int) -> _Int64:
        """Return where users or items, by the `column` of their ids, stand in their table."""
        path = self.tables / ("users.parquet" if column == Columns.User else "items.parquet")
        index = _read_index(path, column, path.stat().st_mtime_ns)
        if isinstance(ids.dtype, pd.CategoricalDtype):
            of_categories = index.get_indexer(ids.cat.categories.astype(object))
            positions = np.append(of_categories, -1)[ids.cat.codes.to_numpy()]
        else:
            positions = index.get_indexer(pd.Index(ids))
        positions = positions.astype(np.int64, copy=False)
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            row = int(missing[0])
            raise DataError(
                f"{self.tables}: interactions: column {ids.name!r}: {ids.iloc[row]!r} in row "
                f"{self.first(number) + row} is not in the other table; run `retrieval fetch` again"
            )
        return positions


class Division(NamedTuple):
    """A split on disk: what a worker needs to know of it is read there.

    One part of rows is divided in the split's order. Of several each keeps its rows in their order, and `order.npy`
    says afterwards how those of all together make the split's order.
    """

    queries: Queries
    directory: Path

    @classmethod
    def write(cls, parts: Parts, queries: Queries, directory: Path) -> Division:
        """Write the split to `directory`, which must exist."""
        if len(queries.parts) == 1:
            for name in PARTS:
                np.save(directory / f"{name}.npy", getattr(parts, name))
            return cls(queries, directory)
        which = np.full(sum(queries.rows), len(PARTS), dtype=np.uint8)
        for number, name in enumerate(PARTS):
            which[getattr(parts, name)] = number
        np.save(directory / "which.npy", which)
        return cls(queries, directory)

    def training(self, number: int) -> pd.DataFrame:
        """Return the training rows of a part: what is learned from."""
        return self.queries.read(number).iloc[self.rows("train", number)]

    def rows(self, name: str, number: int) -> _Int64:
        """Return the rows of part `number` that belong to `name`, counted within it, int64."""
        if len(self.queries.parts) == 1:
            return np.asarray(np.load(self.directory / f"{name}.npy"), dtype=np.int64)
        first = self.queries.first(number)
        which = np.load(self.directory / "which.npy", mmap_mode="r")[first : first + self.queries.rows[number]]
        return np.flatnonzero(which == PARTS.index(name)).astype(np.int64, copy=False)


def order_of(positions: _Int64, rows: int) -> _Int64 | None:
    """Return where the rows at `positions`, of so many, stand when they are in file order; None if they are in it."""
    if np.all(positions[1:] > positions[:-1]):
        return None
    ranks = np.zeros(rows, dtype=np.uint32 if rows < 2**32 else np.int64)
    ranks[positions] = 1
    np.cumsum(ranks, out=ranks)
    order = ranks[positions].astype(np.int64)
    order -= 1
    return order


def sample(queries: Queries) -> pd.DataFrame:
    """Return some rows that show the types that the columns have in all parts.

    The values of a row are not of one row: users are looked at on their own.
    """
    schema, own = pq.read_schema(queries.parts[0]), list(queries.interactions)
    some = [_telling_rows(to_frame(read_arrow(queries.parts[0], own)), own, _HEAD_ROWS)] if own else []
    # Every part has the types of the first one's schema; but floats may all be whole numbers, lists all be empty.
    types = {name: schema.field(name).type for name in own}
    doubtful = [name for name, kind in types.items() if pa.types.is_floating(kind) or pa.types.is_nested(kind)]
    for path in queries.parts[1:] if doubtful else ():
        telling = _telling_rows(to_frame(read_arrow(path, doubtful)), doubtful, 0)
        same = some[0].iloc[np.zeros(len(telling), dtype=np.int64)].reset_index(drop=True)
        some.append(same.assign(**telling.reset_index(drop=True)))
    frames = [pd.concat(some, ignore_index=True)] if own else []
    if queries.users:
        users = read_part(queries.tables / "users.parquet", list(queries.users))
        frames.append(_telling_rows(users, list(queries.users), _HEAD_ROWS))
    longest = max(map(len, frames))
    padded = [frame.iloc[np.minimum(np.arange(longest), len(frame) - 1)].reset_index(drop=True) for frame in frames]
    return pd.concat(padded, axis=1)


def _telling_rows(frame: pd.DataFrame, columns: Sequence[str], head: int) -> pd.DataFrame:
    """Return the first `head` rows, and the rows that tell the types of `columns`."""
    rows = {row for name in columns for row in _telling(frame[name])} | set(range(min(head, len(frame))))
    return frame.take(sorted(rows))


def _telling(values: pd.Series) -> list[int]:
    """Return the first rows that have a value, that are null, whose list is not empty, that are no whole number."""
    missing = values.isna().to_numpy(bool)
    looks = [~missing, missing]
    if values.dtype == object and not missing.all() and np.ndim(values.iloc[int(np.argmin(missing))]):
        looks.append(np.fromiter((row is not None and len(row) > 0 for row in values), dtype=bool, count=len(values)))
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        looks.append(~missing & ~((np.abs(numbers) < 2.0**53) & (numbers == np.floor(numbers))))
    return [int(np.argmax(look)) for look in looks if look.any()]


@lru_cache(maxsize=2)
def _read_index(path: Path, column: str, changed: int) -> pd.Index:
    return shared_index(read_part(path, [column])[column])


@lru_cache(maxsize=1)
def _read_users(path: Path, changed: int) -> pd.DataFrame:
    return to_frame_of_dictionaries(read_arrow(path))
