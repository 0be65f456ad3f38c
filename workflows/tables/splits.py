"""Rows of the interactions to training, validation and test; and which part a published split gives each row to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from workflows.columns import Columns
from workflows.config import AnySplit, GivenSplit, LeaveLastOutSplit, PlaylistsSplit, RandomSplit, TemporalSplit
from workflows.errors import DataError
from workflows.tables.store import read_part

Rows = npt.NDArray[np.int64]
NUMBERS: Final = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""Of the parts, by what a column may call them."""


class Parts(NamedTuple):
    """Row positions into the interactions, int64; every row is in exactly one part."""

    train: Rows
    valid: Rows
    test: Rows


def split(interactions: pd.DataFrame, config: AnySplit) -> Parts:
    """Divide the rows as the recipe says.

    `interactions` have the columns that the split reads: user, timestamp (int64 seconds) or `split`.

    Raises
    ------
    DataError
        A part would be empty.

    Notes
    -----
    random: `numpy.random.default_rng(seed).permutation(n)`; its first `round(n * (1 - test))` rows are train and
    valid, the rest test; the last `round(validation * ...)` of the former are valid. Parts keep the shuffled order.
    temporal: the same cuts through the rows by time, ties in file order.
    leave-last-out: each user's last row is test, the one before it valid, ties in file order. A user with fewer than
    three rows is all train: nothing would be left to train on. Parts are in file order.
    playlists: the playlists, in the order of their first rows, are shuffled and cut as random cuts rows; all rows of
    one are in one part, in file order.
    given: as the column `split` says (0, 1, 2), in file order; validation rows that are not given are carved from the
    training rows: each user's last one where the split is one by time, else a random share.
    """
    if isinstance(config, RandomSplit):
        order = np.random.default_rng(config.seed).permutation(len(interactions)).astype(np.int64, copy=False)
        parts = _cut(order, config.test, config.validation)
    elif isinstance(config, TemporalSplit):
        order = np.argsort(interactions[Columns.Timestamp].to_numpy(), kind="stable").astype(np.int64, copy=False)
        parts = _cut(order, config.test, config.validation)
    elif isinstance(config, PlaylistsSplit):
        parts = _whole_users(interactions, config)
    elif isinstance(config, GivenSplit):
        parts = _given(interactions, config)
    else:
        parts = _leave_last_out(interactions)
    for name, part in parts._asdict().items():
        if not part.size:
            what = f"the {name} part of {len(interactions):,} interactions would be empty"
            raise DataError(f"data.split: {what}; {_remedy(config)}")
    return parts


def part_numbers(parts: Sequence[Path], split: GivenSplit) -> npt.NDArray[np.int8]:
    """Read which part every row of stored interactions was given to: 0 train, 1 validation, 2 test; int8 `[rows]`.

    Raises
    ------
    DataError
        There is no such column, or it holds something else; names the row.
    """
    column, first, numbers = split.column or Columns.Split, 0, []
    columns = pq.read_schema(parts[0]).names
    if column not in columns:
        raise DataError(
            f"data.split.column: the interactions have no column {column!r}; there are: {', '.join(columns)}"
        )
    for path in parts:
        names = read_part(path, [column])[column]
        numbers.append(_numbers(names, column, first))
        first += len(names)
    return np.concatenate(numbers)


def _numbers(names: pd.Series, column: str, first: int) -> npt.NDArray[np.int8]:
    codes, values = pd.factorize(names)
    known = [NUMBERS.get(str(value).strip().lower(), -1) for value in values]
    numbers = np.array([*known, -1], np.int8)[codes]  # the code of null is -1: the last
    if (numbers < 0).any():
        row = int(np.argmax(numbers < 0))
        raise DataError(
            f"data.split.column: column {column!r} must be train, validation or test in every row, "
            f"got {names.iloc[row]!r} in row {first + row}; leave the row out or give it a part"
        )
    return numbers


def _cut(order: Rows, test: float, validation: float) -> Parts:
    """`order` [n] is cut at the end for the test, and what is left at its end for validation."""
    fit = round(len(order) * (1 - test))
    train = fit - round(fit * validation)
    return Parts(order[:train], order[train:fit], order[fit:])


def _leave_last_out(interactions: pd.DataFrame) -> Parts:
    order, ends = _by_user(interactions)
    part = np.zeros(len(interactions), dtype=np.int8)
    part[order[ends - 1]] = 2
    part[order[ends - 2]] = 1
    return _numbered(part)


def _given(interactions: pd.DataFrame, config: GivenSplit) -> Parts:
    parts = _numbered(interactions[Columns.Split].to_numpy())
    if parts.valid.size or not (parts.train.size and parts.test.size):
        return parts
    return Parts(*_carve(interactions, parts.train, parts.test, config), parts.test)


def _numbered(part: npt.NDArray[np.int8]) -> Parts:
    """Return where the rows of parts 0, 1 and 2 stand, in file order."""
    return Parts(*(np.flatnonzero(part == which).astype(np.int64, copy=False) for which in range(3)))


def _whole_users(interactions: pd.DataFrame, config: PlaylistsSplit) -> Parts:
    codes, users = pd.factorize(interactions[Columns.User])
    order = np.random.default_rng(config.seed).permutation(len(users)).astype(np.int64, copy=False)
    part = np.empty(len(users), dtype=np.int8)
    for which, chosen in enumerate(_cut(order, config.test, config.validation)):
        part[chosen] = which
    return _numbered(part[codes])


def _remedy(config: AnySplit) -> str:
    if isinstance(config, LeaveLastOutSplit):
        return "it needs users with at least three interactions; choose another split"
    if isinstance(config, GivenSplit):
        return "give it a file with rows, or rows of the column"
    return "change data.split's shares or bring more interactions"


def _carve(interactions: pd.DataFrame, train: Rows, test: Rows, split: GivenSplit) -> tuple[Rows, Rows]:
    """Take validation rows from the training rows; return what is left of them, and those taken, in file order.

    Where the rows have times and no training row is later than a test row of its user, the given split is one by
    time: each user's last training row is taken, of users with three or more. Else they are a random share.
    """
    if _is_by_time(interactions, train, test):
        held_out = _last_rows(interactions.iloc[train])
    else:
        count = round(len(train) * split.validation_share)
        held_out = np.sort(np.random.default_rng(split.seed).permutation(len(train))[:count])
    left = np.ones(len(train), np.bool_)
    left[held_out] = False
    return train[left], train[held_out]


def _last_rows(interactions: pd.DataFrame) -> Rows:
    """Return where the last row of every user with three or more stands, ties in file order; int64, ascending."""
    order, ends = _by_user(interactions)
    return np.sort(order[ends - 1]).astype(np.int64, copy=False)


def _by_user(interactions: pd.DataFrame) -> tuple[Rows, Rows]:
    """Return the rows by user and time, ties in file order, and where those of users with three or more end there."""
    users = pd.factorize(interactions[Columns.User])[0]
    order = np.lexsort((interactions[Columns.Timestamp].to_numpy(), users))
    counts = np.bincount(users)
    return order, np.cumsum(counts)[counts >= 3]


def _is_by_time(interactions: pd.DataFrame, train: Rows, test: Rows) -> bool:
    times = interactions[Columns.Timestamp].to_numpy(np.int64)
    if not len(times) or times.min() == times.max():
        return False
    users = pd.factorize(interactions[Columns.User])[0]
    last = np.full(int(users.max()) + 1, times.min(), np.int64)
    np.maximum.at(last, users[train], times[train])
    return bool((times[test] >= last[users[test]]).all())
