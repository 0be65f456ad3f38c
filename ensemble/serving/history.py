"""What each user has done, as the release knows it: CSR arrays in the order of the users table, by time."""

from __future__ import annotations

import numpy as np

from .arrays import take_ranges
from .release import Release


class History:
    """The items of every user's past interactions."""

    def __init__(self, release: Release) -> None:
        self._offsets = np.array(release.array("history/offsets.npy"))
        self._items = release.array("history/item_index.npy")

    def seen(self, user_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (row of the request, item index) of everything that the users have seen, int64 [m] each.

        `user_rows` int64 [n]: rows of the users table; -1 stands for a user without history.
        """
        if len(user_rows) == 1:  # by far the most frequent, and a plain slice
            row = int(user_rows[0])
            items = self._items[self._offsets[row] : self._offsets[row + 1]] if row >= 0 else self._items[:0]
            return np.zeros(len(items), dtype=np.int64), items.astype(np.int64)
        index, bounds = take_ranges(self._offsets, user_rows)
        rows = np.repeat(np.arange(len(user_rows)), np.diff(bounds))
        return rows, self._items[index].astype(np.int64)
