"""Raw ids to rows."""

from __future__ import annotations

import numpy as np

from .lookup import Ids, Lookup, Strings, row_finder


class IdTable:
    """Ids, int64 or strings, and the row of each."""

    def __init__(self, ids: Ids, lookup: Lookup | None = None) -> None:
        """Take distinct ids in row order: int64 [n], an object array of `str` [n], or `Strings` with their lookup."""
        self.is_string, self.size = ids.dtype == object, len(ids)
        self._find = None if lookup is None else row_finder(ids, lookup)
        if lookup is not None or isinstance(ids, Strings):
            return
        self._rows: dict[str, int] = {}
        self._sorted = self._order = np.zeros(0, dtype=np.int64)
        if self.is_string:
            self._rows = {value: row for row, value in enumerate(ids.tolist())}
        else:
            self._order = np.argsort(ids, kind="stable")
            self._sorted = np.ascontiguousarray(ids[self._order])

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Return each id's row, int64 [n]; -1 for an unknown id."""
        if self._find is not None:
            return self._find(ids)
        if self.is_string:
            find = self._rows.get
            return np.fromiter((find(value, -1) for value in ids), dtype=np.int64, count=len(ids))
        if not len(self._sorted):
            return np.full(len(ids), -1, dtype=np.int64)
        position = self._sorted.searchsorted(ids)
        position[position == len(self._sorted)] = 0
        return np.where(self._sorted[position] == ids, self._order[position], -1)
