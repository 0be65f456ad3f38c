"""The kind `cross`: the values of several columns to the code of their combination."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from ...errors import InvalidRequest
from ...files.parameters import Fields
from ..hashing import FEW, combined, hash_integers, hash_string, mixed
from ..vocabulary import NULL
from .base import ANY, CODE, Column, Operator, Parts, nulls_of, rising, vocabulary_of


class Cross:
    """The values of several columns to the code of their combination, int64 [n]; null where one of them is."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        edges = fields.rows("edges")
        if len(edges) != len(parts.dtypes) or not all(map(rising, filter(None, edges))):
            raise fields.error("edges must be one list for each input, and rise strictly")
        pairs = list(zip(parts.dtypes, edges, strict=True))
        if ("float64", []) in pairs or any(dtype == "string" and column for dtype, column in pairs):
            raise fields.error("a cross takes floats by edges, and strings without")
        self._edges = [np.array(column, dtype=np.float64) if column else None for column in edges]
        """Of each column's buckets; None: its values are taken as they are."""
        self._listed = [column or None for column in edges]
        self._vocabulary = vocabulary_of(fields, parts._replace(dtypes=["int64"]))
        """Of hashes."""
        self.codes = self._vocabulary.codes

    def compute(self, *columns: Column) -> np.ndarray:
        rows = len(columns[0].values)
        if rows <= FEW:
            keys = list(map(self._key, *[_listed(column) for column in columns]))
            present = np.array([row for row, key in enumerate(keys) if key is not None], dtype=np.int64)
            return self._encoded(rows, present, np.array([key for key in keys if key is not None], dtype=np.uint64))
        null = np.zeros(rows, dtype=bool)
        for column in columns:
            missing = nulls_of(column)
            if missing is not None:
                null |= missing
        present = (~null).nonzero()[0]
        hashes = [_hashes(column, edges, present) for column, edges in zip(columns, self._edges, strict=True)]
        return self._encoded(rows, present, combined(hashes))

    def _encoded(self, rows: int, present: np.ndarray, keys: np.ndarray) -> np.ndarray:
        codes = np.full(rows, NULL, dtype=np.int64)
        if len(present):
            codes[present] = self._vocabulary.encode(keys.view(np.int64))
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
                own = mixed(value) if isinstance(value, int) else hash_string(_text(value))
            key = mixed(key ^ own)
        return key


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
    """Return a column's values as Python objects; null is None."""
    values: list[Any] = column.values.tolist()
    if column.missing is None:
        return values
    return [None if is_missing else value for value, is_missing in zip(values, column.missing.tolist(), strict=True)]


OPERATORS = {"cross": Operator(((ANY, False),), CODE, False, Cross, repeats=True)}
