"""The kind `embedding`: a column of vectors. Vectors of a file are a `categorical` with the tower's table instead."""

from __future__ import annotations

import numpy as np

from ...errors import InvalidRequest
from ...files.parameters import Fields
from .base import NUMBER, Column, Operator, Parts, check_finite


class Vector:
    """A list of numbers as it is, float32 [n, width]; a null is zeros."""

    def __init__(self, _: Fields, parts: Parts) -> None:
        self._width = parts.width

    def compute(self, column: Column) -> np.ndarray:
        assert column.offsets is not None
        lengths = np.diff(column.offsets)
        wrong = (lengths != 0) & (lengths != self._width)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidRequest(f"row {row}: a vector of {lengths[row]} numbers, expected {self._width}")
        numbers = column.values.astype(np.float64)
        if column.missing is not None:
            numbers[column.missing] = np.nan
        vectors = np.zeros((len(lengths), self._width), dtype=np.float32)
        with np.errstate(over="ignore"):
            vectors[lengths > 0] = numbers[column.offsets[0] : column.offsets[-1]].reshape(-1, self._width)
        check_finite(vectors, "a vector, expected numbers that are finite in float32, none of them null or NaN")
        return vectors


OPERATORS = {"vector": Operator(((("float64",), True),), NUMBER, True, Vector)}
