"""The kind `multi-hot`: a list of values to a list of codes, with or without weights."""

from __future__ import annotations

import numpy as np

from ...errors import InvalidRequest
from ...files.parameters import Fields
from .base import (
    CODE,
    IDS,
    Column,
    Operator,
    Parts,
    check_finite,
    nulls_of,
    option,
    vocabulary_of,
    width_of,
    without,
)


class Window:
    """The codes of the entries of lists that are kept, the first or the last, at their places beside the padding."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        self._vocabulary, self._width = vocabulary_of(fields, parts), width_of(fields, parts)
        self._last, self._left = option(fields, "keep_last"), option(fields, "pad_left")
        self.codes = self._vocabulary.codes

    def _encoded(self, column: Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the codes, int64 [n, max_length], the filled places, bool, and the positions of their entries."""
        assert column.offsets is not None
        filled, positions = self._places(column.offsets)
        codes = np.zeros(filled.shape, dtype=np.int64)
        codes[filled] = self._vocabulary.encode(column.values[positions])
        return codes, filled, positions

    def _places(self, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.minimum(offsets[1:] - offsets[:-1], self._width)[:, None]
        starts = offsets[1:, None] - lengths if self._last else offsets[:-1, None]
        places = np.arange(self._width)
        if self._left:
            places = places - (self._width - lengths)
            filled = places >= 0
        else:
            filled = places < lengths
        return filled, (starts + places)[filled]


class MultiHot(Window):
    """A list to the codes of its kept values that are not null, int64 [n, max_length]."""

    def compute(self, column: Column) -> np.ndarray:
        null = nulls_of(column)
        return self._encoded(column if null is None or not null.any() else without(column, null))[0]


class WeightedMultiHot(Window):
    """A list and its weights to codes, int64 [n, max_length], and weights, float32 of the same shape."""

    def compute(self, values: Column, weights: Column) -> tuple[np.ndarray, np.ndarray]:
        values, lengths = _from_zero(values)
        weights, others = _from_zero(weights)
        if not np.array_equal(lengths, others):
            row = int((lengths != others).argmax())
            raise InvalidRequest(f"row {row}: has another number of weights than of values; expected one for each")
        dropped = np.isnan(weights.values)
        for null in (nulls_of(values), weights.missing):
            dropped = dropped if null is None else dropped | null
        if dropped.any():
            values, weights = without(values, dropped), without(weights, dropped)
        codes, filled, positions = self._encoded(values)
        numbers = np.zeros(filled.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            numbers[filled] = weights.values[positions]
        check_finite(numbers, "weights, expected numbers that are finite in float32")
        return codes, numbers


def _from_zero(column: Column) -> tuple[Column, np.ndarray]:
    """Return a list column whose lists begin with its first value, and their lengths."""
    assert column.offsets is not None
    first, last = int(column.offsets[0]), int(column.offsets[-1])
    missing = None if column.missing is None else column.missing[first:last]
    return Column(column.values[first:last], missing, column.offsets - first), np.diff(column.offsets)


OPERATORS = {
    "multi_hot": Operator(((IDS, True),), CODE, True, MultiHot),
    "weighted_multi_hot": Operator(
        ((IDS, True), (("float64",), True)), (("", "int64"), ("_weight", "float32")), True, WeightedMultiHot
    ),
}
