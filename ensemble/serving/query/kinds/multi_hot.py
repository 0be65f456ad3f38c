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
    Vocabulary,
    check_finite,
    encode,
    nulls_of,
    option,
    vocabulary_of,
    width_of,
    without,
)


class Window:
    """Selects the entries of lists that are kept, the first or the last, and their places beside the padding."""

    def __init__(self, max_length: int, keep_last: bool = False, pad_left: bool = False) -> None:
        self.width, self._last, self._left = max_length, keep_last, pad_left

    def places(self, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the filled places, bool [n, max_length], and the positions of their entries, row by row."""
        lengths = np.minimum(offsets[1:] - offsets[:-1], self.width)[:, None]
        starts = offsets[1:, None] - lengths if self._last else offsets[:-1, None]
        places = np.arange(self.width)
        if self._left:
            places = places - (self.width - lengths)
            filled = places >= 0
        else:
            filled = places < lengths
        return filled, (starts + places)[filled]


class MultiHot:
    """A list to the codes of its kept values that are not null, int64 [n, max_length]."""

    def __init__(self, vocabulary: Vocabulary, window: Window) -> None:
        self._vocabulary, self._window, self.codes = vocabulary, window, vocabulary.codes

    def compute(self, column: Column) -> np.ndarray:
        column = _without_nulls(column)
        assert column.offsets is not None
        filled, positions = self._window.places(column.offsets)
        codes = np.zeros(filled.shape, dtype=np.int64)
        codes[filled] = encode(self._vocabulary, column.values[positions])
        return codes


class WeightedMultiHot:
    """A list and its weights to codes, int64 [n, max_length], and weights, float32 of the same shape."""

    def __init__(self, vocabulary: Vocabulary, window: Window) -> None:
        self._vocabulary, self._window, self.codes = vocabulary, window, vocabulary.codes

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
        assert values.offsets is not None
        filled, positions = self._window.places(values.offsets)
        codes, numbers = np.zeros(filled.shape, dtype=np.int64), np.zeros(filled.shape, dtype=np.float32)
        codes[filled] = encode(self._vocabulary, values.values[positions])
        with np.errstate(over="ignore"):
            numbers[filled] = weights.values[positions]
        check_finite(numbers, "weights, expected numbers that are finite in float32")
        return codes, numbers


def _multi_hot(fields: Fields, parts: Parts) -> MultiHot:
    return MultiHot(vocabulary_of(fields, parts), _window(fields, parts))


def _weighted_multi_hot(fields: Fields, parts: Parts) -> WeightedMultiHot:
    return WeightedMultiHot(vocabulary_of(fields, parts), _window(fields, parts))


def _window(fields: Fields, parts: Parts) -> Window:
    return Window(width_of(fields, parts), option(fields, "keep_last"), option(fields, "pad_left"))


def _without_nulls(column: Column) -> Column:
    """Return a list column without its null entries."""
    null = nulls_of(column)
    return column if null is None or not null.any() else without(column, null)


def _from_zero(column: Column) -> tuple[Column, np.ndarray]:
    """Return a list column whose lists begin with its first value, and their lengths."""
    assert column.offsets is not None
    first, last = int(column.offsets[0]), int(column.offsets[-1])
    missing = None if column.missing is None else column.missing[first:last]
    return Column(column.values[first:last], missing, column.offsets - first), np.diff(column.offsets)


OPERATORS = {
    "multi_hot": Operator(((IDS, True),), CODE, True, _multi_hot),
    "weighted_multi_hot": Operator(
        ((IDS, True), (("float64",), True)), (("", "int64"), ("_weight", "float32")), True, _weighted_multi_hot
    ),
}
