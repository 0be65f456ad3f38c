"""The kind `aggregate`: a value to the row of a table."""

from __future__ import annotations

import numpy as np

from ...files.parameters import Fields
from ..vocabulary import name_in
from .base import IDS, NUMBER, Column, Operator, Parts
from .categorical import Categorical


class Lookup:
    """A value to the row of a table that its code names, float32 [n, width]."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        self._codes = Categorical(fields, parts)
        self._table = table = parts.folder.array(f"{name_in(fields, 'table')}.npy", np.float32, dimensions=2)
        if table.shape[1] != parts.width or len(table) < self._codes.codes:
            raise fields.error(f"the table is {table.shape}, expected ({self._codes.codes}, {parts.width})")
        if not np.isfinite(table).all():
            raise fields.error("the table holds a number that is not finite")

    def compute(self, column: Column) -> np.ndarray:
        return self._table[self._codes.compute(column)]


OPERATORS = {"lookup": Operator(((IDS, False),), NUMBER, True, Lookup)}
