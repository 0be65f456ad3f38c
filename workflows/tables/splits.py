"""Rows of the interactions to training, validation and test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.columns import Columns
from workflows.config import AnySplit, GivenSplit, LeaveLastOutSplit, PlaylistsSplit, RandomSplit, TemporalSplit
from workflows.errors import DataError
from workflows.tables.given import by_user, carve

Rows = npt.NDArray[np.int64]


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
    training rows, see `workflows.tables.given`.
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
    _refuse_empty(parts, len(interactions), config)
    return parts


def _cut(order: Rows, test: float, validation: float) -> Parts:
    """`order` [n] is cut at the end for the test, and what is left at its end for validation."""
    fit = round(len(order) * (1 - test))
    train = fit - round(fit * validation)
    return Parts(order[:train], order[train:fit], order[fit:])


def _leave_last_out(interactions: pd.DataFrame) -> Parts:
    order, ends = by_user(interactions)
    part = np.zeros(len(interactions), dtype=np.int8)
    part[order[ends - 1]] = 2
    part[order[ends - 2]] = 1
    return _numbered(part)


def _given(interactions: pd.DataFrame, config: GivenSplit) -> Parts:
    parts = _numbered(interactions[Columns.Split].to_numpy())
    if parts.valid.size or not (parts.train.size and parts.test.size):
        return parts
    return Parts(*carve(interactions, parts.train, parts.test, config), parts.test)


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


def _refuse_empty(parts: Parts, rows: int, config: AnySplit) -> None:
    for name, part in parts._asdict().items():
        if not part.size:
            raise DataError(f"data.split: the {name} part of {rows:,} interactions would be empty; {_remedy(config)}")


def _remedy(config: AnySplit) -> str:
    if isinstance(config, LeaveLastOutSplit):
        return "it needs users with at least three interactions; choose another split"
    if isinstance(config, GivenSplit):
        return "give it a file with rows, or rows of the column"
    return "change data.split's shares or bring more interactions"
