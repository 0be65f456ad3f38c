"""Which items a row's answer may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np


class ItemMask:
    """The items that may be returned. Do not change its arrays: it is shared by requests."""

    def __init__(self, bits: np.ndarray) -> None:
        """Take bool [items]."""
        self.bits = bits
        self.wanted: Mapping[str, Any] | None = None
        """The filter that it was made of: its allow, deny, tags and ranges; None: of something else."""
        self.count = int(np.count_nonzero(bits))

    @cached_property
    def items(self) -> np.ndarray:
        """Return the rows of the items, int64 [count], ascending."""
        return np.flatnonzero(self.bits)

    @property
    def share(self) -> float:
        """Return which part of all items may be returned."""
        return self.count / max(1, len(self.bits))

    @property
    def size(self) -> int:
        """Return the bytes that it takes at most."""
        return len(self.bits) + 8 * self.count


class Allowed(NamedTuple):
    """The masks of a search's rows."""

    masks: Sequence[ItemMask]
    of_row: np.ndarray
    """int64 [n]: which mask is each row's; -1: none."""
