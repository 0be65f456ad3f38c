"""The kind `continuous`: a number, scaled."""

from __future__ import annotations

import numpy as np

from ...errors import InvalidRequest
from ...files.parameters import Fields
from .base import NUMBER, NUMBERS, Column, Operator, Parts, numbers_of, option


class Continuous:
    """A number to (x - mean) / std, float32 [n], in float64 as NVTabular does.

    Before that null becomes `fill`, numbers are clipped, and with `log` x becomes log(1 + x), or -log(1 - x) where it
    is negative.
    """

    def __init__(self, fields: Fields, _: Parts) -> None:
        self._std = fields.number("std")
        if self._std <= 0:
            raise fields.error("std must be above 0")
        self._low = fields.number("clip_min") if fields.has("clip_min") else -np.inf
        self._high = fields.number("clip_max") if fields.has("clip_max") else np.inf
        self._fill, self._mean, self._log = fields.number("fill"), fields.number("mean"), option(fields, "log")

    def compute(self, column: Column) -> np.ndarray:
        return self.scaled(*numbers_of(column))

    def scaled(self, numbers: np.ndarray, null: np.ndarray | None) -> np.ndarray:
        """Return the feature of numbers, float64 [n], which are overwritten, and a mask of their nulls.

        Raises InvalidRequest, with the row, where it is not finite.
        """
        if null is not None:
            numbers[null] = self._fill
        unscaled = numbers
        if (self._low, self._high) != (-np.inf, np.inf):
            numbers = np.minimum(np.maximum(numbers, self._low), self._high)
        if self._log:
            numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
        with np.errstate(over="ignore"):
            scaled: np.ndarray = ((numbers - self._mean) / self._std).astype(np.float32)
        if not np.isfinite(scaled).all():
            row = int(np.isfinite(scaled).argmin())
            raise InvalidRequest(f"row {row}: got {unscaled[row]}, expected a number whose feature is a finite float32")
        return scaled


OPERATORS = {"continuous": Operator(((NUMBERS, False),), NUMBER, False, Continuous)}
