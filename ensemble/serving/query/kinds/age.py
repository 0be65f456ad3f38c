"""The kind `age`: the time that has passed, scaled."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from .base import NUMBER, NUMBERS, Column, Operator, Parts, numbers_of
from .continuous import Continuous, build_scale


class Age:
    """The time from one column to another, in a unit of so many seconds, then like `Continuous`, float32 [n]."""

    def __init__(self, unit: float, scale: Continuous) -> None:
        self._unit, self._scale = unit, scale

    def compute(self, since: Column, until: Column) -> np.ndarray:
        start, no_start = numbers_of(since)
        end, no_end = numbers_of(until)
        null = no_end if no_start is None else no_start if no_end is None else no_start | no_end
        passed = (end - start) / self._unit
        # Infinities on both sides are no number either.
        nan = np.isnan(passed)
        return self._scale.scaled(passed, nan if null is None else nan | null)


def _age(fields: Fields, parts: Parts) -> Age:
    unit = fields.number("unit")
    if unit <= 0:
        raise fields.error("unit must be above 0")
    return Age(unit, build_scale(fields, parts))


OPERATORS = {"age": Operator(((NUMBERS, False), (NUMBERS, False)), NUMBER, False, _age)}
