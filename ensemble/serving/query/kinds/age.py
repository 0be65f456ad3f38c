"""The kind `age`: the time that has passed, scaled."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from .base import NUMBER, NUMBERS, Column, Operator, Parts, numbers_of
from .continuous import Continuous


class Age:
    """The time from one column to another, in a unit of so many seconds, then like `Continuous`, float32 [n]."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        self._unit = fields.number("unit")
        if self._unit <= 0:
            raise fields.error("unit must be above 0")
        self._scale = Continuous(fields, parts)

    def compute(self, since: Column, until: Column) -> np.ndarray:
        start, no_start = numbers_of(since)
        end, no_end = numbers_of(until)
        passed = (end - start) / self._unit
        null = np.isnan(passed)  # infinities on both sides are no number either
        for missing in (no_start, no_end):
            if missing is not None:
                null |= missing
        return self._scale.scaled(passed, null)


OPERATORS = {"age": Operator(((NUMBERS, False), (NUMBERS, False)), NUMBER, False, Age)}
