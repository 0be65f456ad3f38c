"""The kind `bucketized`: a number to the index of its bucket."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from ..vocabulary import FIRST_KNOWN, NULL
from .base import CODE, NUMBERS, Column, Operator, Parts, numbers_of, rising


class Bucketized:
    """A number to 3 + how many edges are not above it, int64 [n]; null is 1."""

    def __init__(self, fields: Fields, _: Parts) -> None:
        edges = fields.numbers("edges")
        if not edges or not rising(edges):
            raise fields.error("edges must rise strictly, and be there")
        self._edges = np.array(edges, dtype=np.float64)
        self.codes = FIRST_KNOWN + len(edges) + 1

    def compute(self, column: Column) -> np.ndarray:
        numbers, null = numbers_of(column)
        codes: np.ndarray = self._edges.searchsorted(numbers, side="right").astype(np.int64) + FIRST_KNOWN
        if null is not None:
            codes[null] = NULL
        return codes


OPERATORS = {"bucketized": Operator(((NUMBERS, False),), CODE, False, Bucketized)}
