"""What answering a request would take, added up before it is done, and refused where that is too much."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InvalidRequest

_SHARED = 2.0
"""What is predicted holds of a quiet core; a server shares its own with others."""


class TooMuch(InvalidRequest):
    """Answering takes longer than a request may; of several that are answered together, all of them."""

    def __init__(self, row: int, message: str) -> None:
        """Take the row, of all that are answered together, up to which there was time."""
        super().__init__(message)
        self.row = row


class Budget:
    """The time for the rows that are answered together; predicted, not measured, so the same for the same request."""

    def __init__(self, milliseconds: float = math.inf) -> None:
        """Take how long the answer may take."""
        self._limit = milliseconds
        self._spent = 0.0

    def most(self, nanoseconds: float) -> float:
        """Return how many things that take so long there is time for."""
        return (self._limit - self._spent) / (nanoseconds * _SHARED * 1e-6)

    def spend(self, row: int, nanoseconds: float) -> None:
        """Take what a step will take for a row, on a quiet core; raise TooMuch where that is more than is left."""
        self._spent += nanoseconds * _SHARED * 1e-6
        if self._spent > self._limit:
            raise TooMuch(
                row,
                f"row {row}: up to here the request would take {self._spent:.0f} ms, more than the {self._limit:.0f} "
                "ms that it may ([serving] max_request_milliseconds); send fewer rows at a time, fewer different "
                "filters, shorter lists or a smaller top_k",
            )

    def spend_each(self, counts: np.ndarray, nanoseconds: float) -> None:
        """Take so much for every one of `counts`, int64 [n], things of each row."""
        if self._limit == math.inf:
            return
        row = int(counts.cumsum().searchsorted(self.most(nanoseconds), side="right"))
        if row < len(counts):
            self.spend(row, float(counts[: row + 1].sum()) * nanoseconds)
        self.spend(len(counts) - 1, float(counts.sum()) * nanoseconds)
