"""Raw columns and histories as graphs take them, which know no missing values: `NULLS` stand for a null."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.serving.query.sequence import FIRST_ITEM
from ensemble.serving.query.times import FAR
from ensemble.serving.query.transform import Column
from ensemble.serving.triton.tensors import NO_ITEM, WIRE

if TYPE_CHECKING:
    from ensemble.serving.retriever import Retriever

ITEMS, TIMES, EXCLUDE = "history_item_ids", "history_timestamps", "exclude_item_ids"
PADDING: dict[str, Any] = {dtype: NO_ITEM[WIRE[dtype]] for dtype in ("int64", "string")}
"""Pads lists of ids; no item has it."""
NULLS: dict[str, Any] = {**PADDING, "float64": np.nan}
"""What stands for a null, by data type."""


class Unsupported(Exception):
    """The transform does something that a graph cannot express; the message says what."""


def raw_feeds(retriever: Retriever, columns: Mapping[str, Column], users: np.ndarray) -> dict[str, np.ndarray]:
    """Return the raw columns of queries, and the whole histories of their users, rows of the users table, -1 for none.

    A history is in the order of its times, since of equal ones the last counts as the newest, after its padding.
    """
    stated = {column["name"]: column["dtype"] for column in retriever.transform.inputs}
    full = retriever.users.complete(columns, users)
    past = retriever.history.until(users, np.full(len(users), FAR), FAR)
    codes, seconds, ids = past.codes[:, ::-1], past.seconds[:, ::-1], retriever.catalogue.rows.ids
    nothing = np.array(PADDING["string" if ids.dtype == object else "int64"], dtype=ids.dtype)
    items = np.where(codes > 0, ids[np.maximum(codes - FIRST_ITEM, 0)], nothing)
    return {**{name: padded(column, stated[name]) for name, column in full.items()}, ITEMS: items, TIMES: seconds}


def padded(column: Column, dtype: str) -> np.ndarray:
    """Return a raw column `[n]` or `[n, m]`, nulls as `NULLS`, lists padded with nulls."""
    values = np.array(column.values)
    if column.missing is not None:
        values[column.missing] = NULLS[dtype]
    if column.offsets is None:
        return values
    lists = [values[start:end] for start, end in pairwise(column.offsets)]
    array = np.full((len(lists), max(map(len, lists), default=0)), NULLS[dtype], dtype=values.dtype)
    for row, entries in enumerate(lists):
        array[row, : len(entries)] = entries
    return array
