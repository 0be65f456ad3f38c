"""The past interactions of each user: CSR arrays in the order of the users table, by time."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidRelease
from ..files.arrays import is_csr, take_ranges
from ..files.release import Release
from .sequence import FIRST_ITEM, Past
from .times import FAR

_FEW = 32
"""Up to this many users, slices put together take half the time of computing every position."""


class History:
    """The items and times of every user's past interactions."""

    def __init__(self, release: Release) -> None:
        """Map the arrays; raise InvalidRelease if they do not fit each other, the users and the items."""
        self._offsets = np.array(release.array("history/offsets.npy", np.int64))
        self._items = release.array("history/item_index.npy", np.int32)
        self._seconds = release.array("history/timestamp.npy", np.int64)
        place, users, items = release.path / "history", release.manifest["counts"]["users"], release.trained_items
        if not is_csr(self._offsets, users, len(self._items)) or len(self._seconds) != len(self._items):
            raise InvalidRelease(f"{place}: the arrays do not fit each other and the {users} users")
        if len(self._seconds) and not 0 <= int(self._seconds.min()) <= int(self._seconds.max()) < FAR:
            raise InvalidRelease(f"{place}/timestamp.npy: expected seconds since 1970")
        later = self._seconds[1:] >= self._seconds[:-1]
        first = self._offsets[(self._offsets > 0) & (self._offsets < len(self._seconds))]
        later[first - 1] = True  # of the next user
        if not later.all():
            raise InvalidRelease(f"{place}/timestamp.npy: a user's interactions are not in the order of their times")
        if len(self._items) and not 0 <= int(self._items.min()) <= int(self._items.max()) < items:
            raise InvalidRelease(f"{place}/item_index.npy: expected rows of the {items} items that were trained")

    def seen(self, user_rows: np.ndarray, included: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (row of the request, item index), int64 [m] each, of everything that the users have seen.

        `user_rows` int64 [n]: rows of the users table; -1 for a user without history. Rows that are `included`, bool
        [n], are left out.
        """
        offsets, none = self._offsets, self._items[:0]
        if len(user_rows) == 1:  # by far the most frequent
            row = -1 if included[0] else int(user_rows[0])
            items = self._items[offsets[row] : offsets[row + 1]] if row >= 0 else none
            return np.zeros(len(items), dtype=np.int64), items.astype(np.int64)
        known = np.where(included, -1, user_rows)
        if len(known) > _FEW:
            positions, bounds = take_ranges(offsets, known)
            return np.arange(len(known)).repeat(np.diff(bounds)), self._items[positions].astype(np.int64)
        parts = [self._items[offsets[row] : offsets[row + 1]] if row >= 0 else none for row in known.tolist()]
        rows = np.arange(len(parts)).repeat([len(part) for part in parts])
        return rows, np.concatenate(parts).astype(np.int64)

    def until(self, user_rows: np.ndarray, now: np.ndarray, last: int) -> Past:
        """Return each user's `last` newest interactions before or at `now`, int64 [n]; fewer columns if nobody has so
        many.

        `user_rows` int64 [n] as in `seen`. Among equal times, the one that the release has later is newer.
        """
        if len(user_rows) == 1:
            return self._until_alone(int(user_rows[0]), int(now[0]), last)
        known = user_rows >= 0
        start = np.where(known, self._offsets[user_rows], 0)
        end = self._cut(start, np.where(known, self._offsets[user_rows + 1], 0), now)
        width = min(last, int((end - start).max(initial=0)))
        positions = end[:, None] - np.arange(1, width + 1)
        past = positions >= start[:, None]
        if past.all():
            return Past(self._items[positions].astype(np.int64) + FIRST_ITEM, self._seconds[positions])
        positions[~past] = 0
        codes = np.where(past, self._items[positions].astype(np.int64) + FIRST_ITEM, 0)
        return Past(codes, np.where(past, self._seconds[positions], 0))

    def _until_alone(self, row: int, now: int, last: int) -> Past:
        """Do the same for one row by slices, about six times as fast."""
        start, end = (int(self._offsets[row]), int(self._offsets[row + 1])) if row >= 0 else (0, 0)
        if end > start and self._seconds[end - 1] > now:
            end = start + int(self._seconds[start:end].searchsorted(now, side="right"))
        newest = slice(max(start, end - last), end)
        codes = self._items[newest][::-1].astype(np.int64) + FIRST_ITEM
        return Past(codes[None, :], self._seconds[newest][::-1][None, :])

    def _cut(self, start: np.ndarray, end: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Return where, between `start` and `end` [n], the first interaction after `now` is, by binary search of all
        rows at once.
        """
        low, high = start.copy(), end.copy()
        late = high > low
        late[late] = self._seconds[high[late] - 1] > now[late]
        low[~late] = high[~late]
        while (open_rows := np.flatnonzero(low < high)).size:
            middle = (low[open_rows] + high[open_rows]) // 2
            after = self._seconds[middle] > now[open_rows]
            high[open_rows[after]] = middle[after]
            low[open_rows[~after]] = middle[~after] + 1
        return low
