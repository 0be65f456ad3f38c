"""Raw columns as graphs take them, which know no missing values: arrays in which `NULLS` stand for a null."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from ensemble.serving.query.transform import Column
from ensemble.serving.triton.tensors import NO_ITEM, WIRE

PADDING: dict[str, Any] = {dtype: NO_ITEM[WIRE[dtype]] for dtype in ("int64", "string")}
"""Pads lists of ids; no item has it."""
NULLS: dict[str, Any] = {**PADDING, "float64": np.nan}
"""What stands for a null, by data type."""


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
