"""Operators that read several raw columns, or make more than one array."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import cos, floor, pi, sin
from typing import Any, Union

import numpy as np

from ..errors import InvalidRequest
from .hashing import FEW, MASK, combined, hash_integers, hash_string, mixed
from .operators import Categorical, Column, Continuous, Vocabulary, Window, encode, nulls_of, numbers_of, without
from .times import FAR, PARTS, PERIODS, fraction_of, index_of
from .vocabulary import FIRST_KNOWN, NULL, IntegerVocabulary

Made = Union[np.ndarray, tuple[np.ndarray, ...]]


class Age:
    """The time from one column to another, in a unit of so many seconds, then like `Continuous`, float32 [n]."""

    def __init__(self, unit: float, scale: Continuous) -> None:
        self._unit, self._scale = unit, scale

    def __call__(self, since: Column, until: Column) -> np.ndarray:
        start, no_start = numbers_of(since)
        end, no_end = numbers_of(until)
        null = no_end if no_start is None else no_start if no_end is None else no_start | no_end
        passed = (end - start) / self._unit
        # Infinities on both sides are no number either.
        nan = np.isnan(passed)
        return self._scale.scaled(passed, nan if null is None else nan | null)


class Time:
    """Seconds since 1970 to 3 + their hour, weekday or month, int64 [n]; null is 1."""

    def __init__(self, part: str, offset: int) -> None:
        self._part, self._offset, self.codes = part, offset, FIRST_KNOWN + PARTS[part]

    def __call__(self, column: Column) -> np.ndarray:
        seconds = seconds_of(column)
        if len(seconds) <= FEW and self._part in PERIODS:
            period, unit, start = PERIODS[self._part]
            shift = self._offset - start
            codes = [
                (floor(one) + shift) % period // unit + FIRST_KNOWN if -FAR < one < FAR else NULL
                for one in seconds.tolist()
            ]
            return np.array(codes, dtype=np.int64)
        index = index_of(seconds, self._part, self._offset)
        return np.where(index < 0, NULL, index + FIRST_KNOWN)


class Cyclic:
    """Seconds since 1970 to sine and cosine of their place in the day, week or year, float32 [n, 2]; null is zeros."""

    def __init__(self, part: str, offset: int) -> None:
        self._part, self._offset = part, offset

    def __call__(self, column: Column) -> np.ndarray:
        seconds = seconds_of(column)
        if len(seconds) <= FEW and self._part in PERIODS:
            return np.array([self._wave(one) for one in seconds.tolist()], dtype=np.float32).reshape(-1, 2)
        angle = 2 * np.pi * fraction_of(seconds, self._part, self._offset)
        return np.nan_to_num(np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32)

    def _wave(self, seconds: float) -> tuple[float, float]:
        """Return what one row gets: Python is faster than NumPy for a few."""
        if not -FAR < seconds < FAR:
            return 0.0, 0.0
        period, _, start = PERIODS[self._part]
        angle = 2 * pi * ((seconds + self._offset - start) % period / period)
        return sin(angle), cos(angle)


class Cross:
    """The values of several columns to the code of their combination, int64 [n]; null where one of them is."""

    def __init__(self, edges: Sequence[Sequence[float]], vocabulary: IntegerVocabulary) -> None:
        """Take each column's bucket edges, none where its values themselves count, and a vocabulary of hashes."""
        self._edges = [np.array(one, dtype=np.float64) if one else None for one in edges]
        self._listed = [list(map(float, one)) if one else None for one in edges]
        self._vocabulary, self.codes = vocabulary, vocabulary.codes

    def __call__(self, *columns: Column) -> np.ndarray:
        rows = len(columns[0].values)
        if rows <= FEW:
            keys = list(map(self._key, *[_listed(column) for column in columns]))
            there = np.array([row for row, key in enumerate(keys) if key is not None], dtype=np.int64)
            return self._encoded(rows, there, np.array([key for key in keys if key is not None], dtype=np.uint64))
        null = np.zeros(rows, dtype=bool)
        for column in columns:
            missing = nulls_of(column)
            if missing is not None:
                null |= missing
        there = (~null).nonzero()[0]
        hashes = [_hashes(column, edges, there) for column, edges in zip(columns, self._edges, strict=True)]
        return self._encoded(rows, there, combined(hashes))

    def _encoded(self, rows: int, there: np.ndarray, keys: np.ndarray) -> np.ndarray:
        codes = np.full(rows, NULL, dtype=np.int64)
        if len(there):
            codes[there] = self._vocabulary.encode(keys.view(np.int64))
        return codes

    def _key(self, *values: Any) -> int | None:
        """Return the hash of one row's values: Python is faster than NumPy for a few."""
        key = 0
        for value, edges in zip(values, self._listed, strict=True):
            if value is None or value != value:
                return None
            if edges is not None:
                own = mixed(bisect_right(edges, float(value)))
            else:
                own = mixed(value & MASK) if isinstance(value, int) else hash_string(_text(value))
            key = mixed(key ^ own)
        return key


class WeightedMultiHot:
    """A list and its weights to codes, int64 [n, max_length], and weights, float32 of the same shape."""

    def __init__(self, vocabulary: Vocabulary, window: Window) -> None:
        self._vocabulary, self._window, self.codes = vocabulary, window, vocabulary.codes

    def __call__(self, values: Column, weights: Column) -> tuple[np.ndarray, np.ndarray]:
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
        filled, positions = self._window(values.offsets)
        codes, numbers = np.zeros(filled.shape, dtype=np.int64), np.zeros(filled.shape, dtype=np.float32)
        codes[filled] = encode(self._vocabulary, values.values[positions])
        with np.errstate(over="ignore"):
            numbers[filled] = weights.values[positions]
        _check_finite(numbers, "weights, expected numbers that are finite in float32")
        return codes, numbers


class Lookup:
    """A value to the row of a table that its code names, float32 [n, width]."""

    def __init__(self, vocabulary: Vocabulary, table: np.ndarray) -> None:
        self._codes, self._table = Categorical(vocabulary), table

    def __call__(self, column: Column) -> np.ndarray:
        return self._table[self._codes(column)]


class Vector:
    """A list of numbers as it is, float32 [n, width]; a null is zeros."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, column: Column) -> np.ndarray:
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
        _check_finite(vectors, "a vector, expected numbers that are finite in float32, none of them null or NaN")
        return vectors


def _check_finite(numbers: np.ndarray, what: str) -> None:
    """Raise InvalidRequest, with the row, unless float32 [n, width] is finite."""
    finite = np.isfinite(numbers)
    if not finite.all():
        row, place = (int(one[0]) for one in np.nonzero(~finite))
        raise InvalidRequest(f"row {row}: got {numbers[row, place]} in {what}")


def seconds_of(column: Column) -> np.ndarray:
    """Return a column of numbers, float64 [n]; null is NaN."""
    numbers, null = numbers_of(column)
    if null is not None:
        numbers[null] = np.nan
    return numbers


def _hashes(column: Column, edges: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    values = column.values[rows]
    if edges is not None:
        return hash_integers(edges.searchsorted(values.astype(np.float64), side="right").astype(np.int64))
    if values.dtype != object:
        return hash_integers(values)
    return np.array([hash_string(_text(value)) for value in values.tolist()], dtype=np.uint64)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"value {value!r}: expected a string")
    return value


def _listed(column: Column) -> list[Any]:
    """Return a column's values as Python has them; null is None."""
    values: list[Any] = column.values.tolist()
    if column.missing is None:
        return values
    return [None if gone else value for value, gone in zip(values, column.missing.tolist(), strict=True)]


def _from_zero(column: Column) -> tuple[Column, np.ndarray]:
    """Return a list column whose lists begin with its first value, and their lengths."""
    assert column.offsets is not None
    first, last = int(column.offsets[0]), int(column.offsets[-1])
    missing = None if column.missing is None else column.missing[first:last]
    return Column(column.values[first:last], missing, column.offsets - first), np.diff(column.offsets)
