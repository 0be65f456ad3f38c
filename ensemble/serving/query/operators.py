"""The closed set of operators that a transform may consist of. Each makes one feature of one raw column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Union

import numpy as np

from ..errors import InvalidRequest
from .vocabulary import FIRST_KNOWN, NULL, IntegerVocabulary, StringVocabulary, tokens

Vocabulary = Union[IntegerVocabulary, StringVocabulary]


class Column(NamedTuple):
    """A raw column of a batch. `missing` marks the values that are null; whatever stands there is not looked at."""

    values: np.ndarray
    """int64 [n], float64 [n] (NaN is null too) or an object array [n] of `str` (None is null too). In a list column
    n is the number of entries of all lists."""
    missing: np.ndarray | None = None
    """bool, as long as `values`; None if nothing is null."""
    offsets: np.ndarray | None = None
    """int64 [rows + 1] for a list column: row i holds `values[offsets[i]:offsets[i + 1]]`."""


class Operator(Protocol):
    """Makes a feature of a column: int64 [n], float32 [n] or int64 [n, max_length]."""

    def __call__(self, column: Column) -> np.ndarray: ...


class Categorical:
    """One value to its code, int64 [n]."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary, self.codes = vocabulary, vocabulary.codes

    def __call__(self, column: Column) -> np.ndarray:
        codes = encode(self._vocabulary, _with_none(column, self._vocabulary))
        if column.missing is not None:
            codes[column.missing] = NULL
        return codes


class Continuous:
    """A number to (x - mean) / std, float32 [n], in float64 as NVTabular does.

    Before that null becomes `fill`, numbers are clipped to `limits`, and with `log` x becomes log(1 + x), or
    -log(1 - x) where it is negative.
    """

    def __init__(
        self, fill: float, mean: float, std: float, limits: tuple[float, float] | None = None, log: bool = False
    ) -> None:
        self._fill, self._mean, self._std, self._limits, self._log = fill, mean, std, limits, log

    def __call__(self, column: Column) -> np.ndarray:
        return self.scaled(*numbers_of(column))

    def scaled(self, numbers: np.ndarray, null: np.ndarray | None) -> np.ndarray:
        """Return the feature of numbers, float64 [n], which are overwritten, and a mask of their nulls.

        Raises InvalidRequest, with the row, where it is not finite.
        """
        if null is not None:
            numbers[null] = self._fill
        given = numbers
        if self._limits is not None:
            numbers = np.minimum(np.maximum(numbers, self._limits[0]), self._limits[1])
        if self._log:
            numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
        with np.errstate(over="ignore"):
            scaled: np.ndarray = ((numbers - self._mean) / self._std).astype(np.float32)
        if not np.isfinite(scaled).all():
            row = int(np.isfinite(scaled).argmin())
            raise InvalidRequest(f"row {row}: got {given[row]}, expected a number whose feature is a finite float32")
        return scaled


class Bucketized:
    """A number to 3 + how many edges are not above it, int64 [n]; null is 1."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, dtype=np.float64)
        self.codes = FIRST_KNOWN + len(edges) + 1

    def __call__(self, column: Column) -> np.ndarray:
        numbers, null = numbers_of(column)
        codes: np.ndarray = self._edges.searchsorted(numbers, side="right").astype(np.int64) + FIRST_KNOWN
        if null is not None:
            codes[null] = NULL
        return codes


class Window:
    """Which entries of lists are kept, and where they stand: the first or the last, with zeros after or before them."""

    def __init__(self, max_length: int, keep_last: bool = False, pad_left: bool = False) -> None:
        self.width, self._last, self._left = max_length, keep_last, pad_left

    def __call__(self, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places that are filled, bool [n, max_length], and the positions of what fills them, row by row."""
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
    """A list to the codes of those of its values that are not null and kept, int64 [n, max_length]."""

    def __init__(self, vocabulary: Vocabulary, window: Window) -> None:
        self._vocabulary, self._window, self.codes = vocabulary, window, vocabulary.codes

    def __call__(self, column: Column) -> np.ndarray:
        column = _without_nulls(column)
        assert column.offsets is not None
        filled, positions = self._window(column.offsets)
        codes = np.zeros(filled.shape, dtype=np.int64)
        codes[filled] = encode(self._vocabulary, column.values[positions])
        return codes


class Text:
    """A text to the codes of its first `max_length` tokens, int64 [n, max_length], then zeros."""

    def __init__(self, vocabulary: StringVocabulary, max_length: int, ngrams: int) -> None:
        self._vocabulary, self._width, self._ngrams = vocabulary, max_length, ngrams
        self.codes = vocabulary.codes

    def __call__(self, column: Column) -> np.ndarray:
        codes = np.zeros((len(column.values), self._width), dtype=np.int64)
        for row, text in enumerate(_with_none(column, self._vocabulary).tolist()):
            found = self._vocabulary.encode(tokens(text, self._ngrams)[: self._width])
            codes[row, : len(found)] = found
        return codes


def encode(vocabulary: Vocabulary, values: np.ndarray) -> np.ndarray:
    """Return the codes of values as a column holds them."""
    if isinstance(vocabulary, StringVocabulary):
        return vocabulary.encode(values.tolist())
    return vocabulary.encode(values)


def _with_none(column: Column, vocabulary: Vocabulary) -> np.ndarray:
    """Return the values; strings that are missing become None, so that nothing looks at them."""
    if column.missing is None or isinstance(vocabulary, IntegerVocabulary):
        return column.values
    values = column.values.copy()
    values[column.missing] = None
    return values


def numbers_of(column: Column) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a float64 copy, and a mask of its nulls unless there can be none."""
    numbers = column.values.astype(np.float64)
    if column.values.dtype.kind == "i":
        return numbers, column.missing
    null = np.isnan(numbers)
    return numbers, null if column.missing is None else null | column.missing


def _without_nulls(column: Column) -> Column:
    """Return a list column without its null entries."""
    null = nulls_of(column)
    return column if null is None or not null.any() else without(column, null)


def nulls_of(column: Column) -> np.ndarray | None:
    """Return a mask of the nulls among a column's values, None where there can be none."""
    null = column.missing
    if column.values.dtype.kind == "i":
        return null
    values = column.values
    none = np.array([value is None for value in values.tolist()]) if values.dtype == object else np.isnan(values)
    return none.astype(bool) if null is None else none.astype(bool) | null


def without(column: Column, dropped: np.ndarray) -> Column:
    """Return a list column without some of its entries, a mask."""
    kept = np.zeros(len(dropped) + 1, dtype=np.int64)
    np.cumsum(~dropped, out=kept[1:])
    return Column(column.values[~dropped], None, kept[column.offsets])
