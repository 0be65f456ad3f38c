"""The kind `aggregate`: a value to the row of a table."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from ..vocabulary import load_table, name_in
from .base import IDS, NUMBER, Column, Operator, Parts, Vocabulary, vocabulary_of
from .categorical import Categorical


class Lookup:
    """A value to the row of a table that its code names, float32 [n, width]."""

    def __init__(self, vocabulary: Vocabulary, table: np.ndarray) -> None:
        self._codes, self._table = Categorical(vocabulary), table

    def compute(self, column: Column) -> np.ndarray:
        return self._table[self._codes.compute(column)]


def _lookup(fields: Fields, parts: Parts) -> Lookup:
    vocabulary = vocabulary_of(fields, parts)
    table = load_table(parts.directory, name_in(fields, "table"))
    if table.shape[1] != parts.width or len(table) < vocabulary.codes:
        raise fields.error(f"the table is {table.shape}, expected ({vocabulary.codes}, {parts.width})")
    if not np.isfinite(table).all():
        raise fields.error("the table holds a number that is not finite")
    return Lookup(vocabulary, table)


OPERATORS = {"lookup": Operator(((IDS, False),), NUMBER, True, _lookup)}
