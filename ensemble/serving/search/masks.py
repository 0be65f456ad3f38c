"""The items that a row's answer may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_KEPT_ITEMS = 1 << 16
"""Catalogues up to this size keep a mask's other forms too; a larger one's are made when they are needed."""
_FEW = 16
"""A mask that allows at most one item of so many keeps their rows as well, which take no more than its bits then."""


class ItemMask:
    """The allowed items, one bit each. Do not change its arrays, which requests share."""

    def __init__(self, bits: np.ndarray) -> None:
        """Take bool [items]."""
        self.total = len(bits)
        """The number of all items."""
        self.packed = np.packbits(bits, bitorder="little")
        """uint8 [items / 8], the first item in the lowest bit of the first byte."""
        self.count = int(np.count_nonzero(bits))
        """Number of allowed items."""
        self.wanted: Mapping[str, Any] | None = None
        """The allow, deny, tags and ranges of its filter; None: it has another origin."""
        self._bits: np.ndarray | None = bits if self.total <= _KEPT_ITEMS else None
        self._items: np.ndarray | None = None

    @property
    def bits(self) -> np.ndarray:
        """Return bool [items]; computed at each call for a large catalogue."""
        return unpacked(self.packed, self.total) if self._bits is None else self._bits

    @property
    def items(self) -> np.ndarray:
        """Return the rows of the items, int64 [count], ascending."""
        if self._items is not None:
            return self._items
        items = np.flatnonzero(self.bits)
        if self.total <= _KEPT_ITEMS or self.count * _FEW <= self.total:
            self._items = items
        return items

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """Return which of the rows, int64 of any shape, are allowed; undefined for -1."""
        if self._bits is not None:
            return self._bits[rows]
        return (self.packed[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)

    def count_first(self, items: int) -> int:
        """Return how many of the first `items` are allowed."""
        return self.count if items == self.total else int(np.count_nonzero(self.bits[:items]))

    @property
    def share(self) -> float:
        """Return the share of all items that is allowed."""
        return self.count / max(1, self.total)

    @property
    def size(self) -> int:
        """Return the maximum number of bytes that it takes."""
        if self.total <= _KEPT_ITEMS:
            return 9 * self.total
        return self.total // 8 + (8 * self.count if self.count * _FEW <= self.total else 0)


class Allowed(NamedTuple):
    """The masks of a search's rows."""

    masks: Sequence[ItemMask]
    of_row: np.ndarray
    """int64 [n]: which mask is each row's; -1: none."""


def packed(rows: np.ndarray, items: int) -> np.ndarray:
    """Return the bits, uint8 [items / 8], of items with the `rows` int [m], which may hold duplicates."""
    bits = np.zeros(items, dtype=bool)
    bits[rows] = True
    return np.packbits(bits, bitorder="little")


def unpacked(bits: np.ndarray, items: int) -> np.ndarray:
    """Return the bits, uint8 [items / 8], as bool [items]."""
    return np.unpackbits(bits, count=items, bitorder="little").view(bool)
