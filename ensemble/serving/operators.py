"""The closed set of operators that a transform may consist of. Each makes one feature of one raw column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Union

import numpy as np

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
        self._vocabulary = vocabulary

    def __call__(self, column: Column) -> np.ndarray:
        codes = _encode(self._vocabulary, _with_none(column, self._vocabulary))
        if column.missing is not None:
            codes[column.missing] = NULL
        return codes


class Continuous:
    """A number to (x - mean) / std, float32 [n]; null is `fill` before that. Computed in float64, as NVTabular does."""

    def __init__(self, fill: float, mean: float, std: float) -> None:
        self._fill, self._mean, self._std = fill, mean, std

    def __call__(self, column: Column) -> np.ndarray:
        numbers, null = _numbers(column)
        if null is not None:
            numbers[null] = self._fill
        with np.errstate(over="ignore"):
            return ((numbers - self._mean) / self._std).astype(np.float32)


class Bucketized:
    """A number to 3 + how many edges are not above it, int64 [n]; null is 1."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, dtype=np.float64)

    def __call__(self, column: Column) -> np.ndarray:
        numbers, null = _numbers(column)
        codes: np.ndarray = self._edges.searchsorted(numbers, side="right").astype(np.int64) + FIRST_KNOWN
        if null is not None:
            codes[null] = NULL
        return codes


class MultiHot:
    """A list to the codes of its first `max_length` values that are not null, int64 [n, max_length], then zeros."""

    def __init__(self, vocabulary: Vocabulary, max_length: int) -> None:
        self._vocabulary, self._width = vocabulary, max_length

    def __call__(self, column: Column) -> np.ndarray:
        column = _without_nulls(column)
        assert column.offsets is not None
        starts = column.offsets[:-1]
        filled = np.arange(self._width) < (column.offsets[1:] - starts)[:, None]
        codes = np.zeros((len(starts), self._width), dtype=np.int64)
        codes[filled] = _encode(self._vocabulary, column.values[(starts[:, None] + np.arange(self._width))[filled]])
        return codes


class Text:
    """A text to the codes of its first `max_length` tokens, int64 [n, max_length], then zeros."""

    def __init__(self, vocabulary: StringVocabulary, max_length: int, ngrams: int) -> None:
        self._vocabulary, self._width, self._ngrams = vocabulary, max_length, ngrams

    def __call__(self, column: Column) -> np.ndarray:
        codes = np.zeros((len(column.values), self._width), dtype=np.int64)
        for row, text in enumerate(_with_none(column, self._vocabulary).tolist()):
            found = self._vocabulary.encode(tokens(text, self._ngrams)[: self._width])
            codes[row, : len(found)] = found
        return codes


def _encode(vocabulary: Vocabulary, values: np.ndarray) -> np.ndarray:
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


def _numbers(column: Column) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a float64 copy, and a mask of its nulls unless there can be none."""
    numbers = column.values.astype(np.float64)
    if column.values.dtype.kind == "i":
        return numbers, column.missing
    null = np.isnan(numbers)
    return numbers, null if column.missing is None else null | column.missing


def _without_nulls(column: Column) -> Column:
    """Return a list column without its null entries."""
    null = column.missing
    if column.values.dtype == object:
        none = np.array([value is None for value in column.values.tolist()], dtype=bool)
        null = none if null is None else none | null
    if null is None or not null.any():
        return column
    kept = np.zeros(len(null) + 1, dtype=np.int64)
    np.cumsum(~null, out=kept[1:])
    return Column(column.values[~null], None, kept[column.offsets])
