"""The history of a query: what the user did before the query's time, known from the request and from the release.

The training side defines it in `workflows/features/history.py`; tests keep the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

HISTORY = "history"
HISTORY_AGE = "history_age"
TIME = "timestamp"
"""The query's time, int64 seconds since 1970."""
FIRST_ITEM = 3
"""An item's code is its index + 3, so that index -1, an item that the catalogue does not hold, is 2; 0 is padding."""
_NEVER = np.iinfo(np.int64).min


class Past(NamedTuple):
    """Interactions of every row, newest first, then padding."""

    codes: np.ndarray
    """int64 [n, width]; 0 is padding."""
    seconds: np.ndarray
    """int64 [n, width]: their timestamps."""


class Clicks(NamedTuple):
    """Interactions that requests carry, row after row, in the order of each request."""

    rows: np.ndarray
    """int64 [m], ascending."""
    item_ids: np.ndarray
    """int64 or `str` objects [m], of the catalogue or not."""
    seconds: np.ndarray
    """int64 [m]: their timestamps."""


class Sequence:
    """The step of a transform that makes `history` and `history_age`."""

    def __init__(self, last: int, pad_left: bool = False) -> None:
        self.last = last
        """Width of both."""
        self._left = pad_left

    def compute(self, now: np.ndarray, past: Past | None) -> dict[str, np.ndarray]:
        """Return codes int64 [n, last] and ages in seconds float32 [n, last] at the queries' times, int64 [n].

        The newest comes first or, padded on the left, last. `past` holds nothing later than those times (see
        `History.until`); None: no history.
        """
        if past is None or not past.codes.shape[1]:
            shape = len(now), self.last
            return {HISTORY: np.zeros(shape, dtype=np.int64), HISTORY_AGE: np.zeros(shape, dtype=np.float32)}
        ages = (now[:, None] - past.seconds).astype(np.float32)
        ages[past.codes == 0] = 0
        features = {HISTORY: _width(past.codes, self.last), HISTORY_AGE: _width(ages, self.last)}
        if self._left:
            return {name: np.ascontiguousarray(array[:, ::-1]) for name, array in features.items()}
        return features


def joined(known: Past, clicks: Clicks, codes: np.ndarray, now: np.ndarray, last: int) -> Past:
    """Return the `last` newest of `known` and `clicks`, whose item codes are int64 [m], not later than `now` [n].

    Among equal times, a click is newer than a known interaction, and a later click newer than an earlier one.
    """
    not_later = clicks.seconds <= now[clicks.rows]
    rows, seconds, codes = clicks.rows[not_later], clicks.seconds[not_later], codes[not_later]
    counts = np.bincount(rows, minlength=len(now))
    width = int(counts.max(initial=0))
    if not width:
        return known
    # From the right end of a row's clicks, so that a stable sort leaves equal times in the order that is wanted.
    place = counts.cumsum()[rows] - np.arange(len(rows)) - 1
    all_codes = np.zeros((len(now), width + known.codes.shape[1]), dtype=np.int64)
    all_seconds = np.full(all_codes.shape, _NEVER)
    all_codes[rows, place], all_seconds[rows, place] = codes, seconds
    all_codes[:, width:] = known.codes
    all_seconds[:, width:] = np.where(known.codes > 0, known.seconds, _NEVER)
    # Ascending in ~x, which unlike -x no int64 overflows.
    order = (~all_seconds).argsort(axis=1, kind="stable")[:, :last]
    line = np.arange(len(now))[:, None]
    return Past(all_codes[line, order], all_seconds[line, order])


def _width(values: np.ndarray, width: int) -> np.ndarray:
    if values.shape[1] == width:
        return values
    result = np.zeros((len(values), width), dtype=values.dtype)
    result[:, : values.shape[1]] = values[:, :width]
    return result
