"""Splits that somebody published: which part each row was given to, and validation rows where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from workflows.columns import Columns
from workflows.config import GivenSplit
from workflows.errors import DataError
from workflows.tables.store import read_part

Numbers = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]
NUMBERS: Final = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""Of the parts, by what a column may call them."""


def part_numbers(parts: Sequence[Path], split: GivenSplit) -> Numbers:
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


def _numbers(names: pd.Series, column: str, first: int) -> Numbers:
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


def carve(interactions: pd.DataFrame, train: Rows, test: Rows, split: GivenSplit) -> tuple[Rows, Rows]:
    """Take validation rows from the training rows; return what is left of them, and those taken, in file order.

    Where the rows have times and no training row is later than a test row of its user, the given split is one by
    time: each user's last training row is taken, of users with three or more. Else they are a random share.
    """
    if _is_by_time(interactions, train, test):
        held_out = last_rows(interactions.iloc[train])
    else:
        count = round(len(train) * split.validation_share)
        held_out = np.sort(np.random.default_rng(split.seed).permutation(len(train))[:count])
    left = np.ones(len(train), np.bool_)
    left[held_out] = False
    return train[left], train[held_out]


def last_rows(interactions: pd.DataFrame) -> Rows:
    """Return where the last row of every user with three or more stands, ties in file order; int64, ascending."""
    order, ends = by_user(interactions)
    return np.sort(order[ends - 1]).astype(np.int64, copy=False)


def by_user(interactions: pd.DataFrame) -> tuple[Rows, Rows]:
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
