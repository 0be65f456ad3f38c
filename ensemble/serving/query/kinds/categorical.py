"""The kind `categorical`: one value to its code."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from ..vocabulary import NULL
from .base import CODE, IDS, Column, Operator, Parts, vocabulary_of, with_none


class Categorical:
    """One value to its code, int64 [n]."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        self._vocabulary = vocabulary_of(fields, parts)
        self.codes = self._vocabulary.codes

    def compute(self, column: Column) -> np.ndarray:
        codes = self._vocabulary.encode(with_none(column))
        if column.missing is not None:
            codes[column.missing] = NULL
        return codes


OPERATORS = {"categorical": Operator(((IDS, False),), CODE, False, Categorical)}
