"""The kind `time`: a part of a time, as a code or as a place on a circle."""

from __future__ import annotations

from math import cos, floor, pi, sin

import numpy as np

from ...files.parameters import Fields
from ..hashing import FEW
from ..times import FAR, PARTS, PERIODS, fraction_of, index_of
from ..vocabulary import FIRST_KNOWN, NULL
from .base import CODE, NUMBER, NUMBERS, Column, Operator, Parts, numbers_of


class Time:
    """Seconds since 1970 to 3 + their hour, weekday or month, int64 [n]; null is 1."""

    def __init__(self, fields: Fields, _: Parts) -> None:
        self._part, self._offset = _part_of(fields)
        self.codes = FIRST_KNOWN + PARTS[self._part]

    def compute(self, column: Column) -> np.ndarray:
        seconds = _seconds_of(column)
        if len(seconds) <= FEW and self._part in PERIODS:
            period, unit, start = PERIODS[self._part]
            shift = self._offset - start
            codes = [
                (floor(second) + shift) % period // unit + FIRST_KNOWN if -FAR < second < FAR else NULL
                for second in seconds.tolist()
            ]
            return np.array(codes, dtype=np.int64)
        index = index_of(seconds, self._part, self._offset)
        return np.where(index < 0, NULL, index + FIRST_KNOWN)


class Cyclic:
    """Seconds since 1970 to sine and cosine of the place in the day, week or year, float32 [n, 2]; zeros for null."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        if parts.width != 2:
            raise fields.error("max_length must be 2")
        self._part, self._offset = _part_of(fields)

    def compute(self, column: Column) -> np.ndarray:
        seconds = _seconds_of(column)
        if len(seconds) <= FEW and self._part in PERIODS:
            return np.array([self._wave(second) for second in seconds.tolist()], dtype=np.float32).reshape(-1, 2)
        angle = 2 * np.pi * fraction_of(seconds, self._part, self._offset)
        return np.nan_to_num(np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32)

    def _wave(self, seconds: float) -> tuple[float, float]:
        """Return the wave of one row: Python is faster than NumPy for a few."""
        if not -FAR < seconds < FAR:
            return 0.0, 0.0
        period, _, start = PERIODS[self._part]
        angle = 2 * pi * ((seconds + self._offset - start) % period / period)
        return sin(angle), cos(angle)


def _part_of(fields: Fields) -> tuple[str, int]:
    return fields.choice("part", tuple(PARTS)), fields.integer("offset", -86_400, 86_400)


def _seconds_of(column: Column) -> np.ndarray:
    """Return a column of numbers, float64 [n]; null is NaN."""
    numbers, null = numbers_of(column)
    if null is not None:
        numbers[null] = np.nan
    return numbers


OPERATORS = {
    "time": Operator(((NUMBERS, False),), CODE, False, Time),
    "cyclic": Operator(((NUMBERS, False),), NUMBER, True, Cyclic),
}
