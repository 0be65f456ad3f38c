"""The predicted cost of answering a request, summed up before the work is done, and refused if it is too high."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InvalidRequest

_SHARED = 2.0
"""What is predicted holds of a quiet core; a server shares its own with others."""


class TooMuch(InvalidRequest):
    """Answering would take longer than a request may; raised for all requests that are answered together."""

    def __init__(self, row: int, message: str) -> None:
        """Take the last row, of all that are answered together, for which there was time."""
        super().__init__(message)
        self.row = row


class Budget:
    """The time for rows that are answered together; predicted, not measured, so that equal requests are treated
    equally.
    """

    def __init__(self, milliseconds: float = math.inf) -> None:
        """Take the milliseconds that the answer may take."""
        self._limit = milliseconds
        self._spent = 0.0

    def most(self, nanoseconds: float) -> float:
        """Return how many steps of that duration there is time for."""
        return (self._limit - self._spent) / (nanoseconds * _SHARED * 1e-6)

    def spend(self, row: int, nanoseconds: float) -> None:
        """Subtract the cost of a step for a row, on an idle core; raise TooMuch if less than that is left."""
        self._spent += nanoseconds * _SHARED * 1e-6
        if self._spent > self._limit:
            raise TooMuch(
                row,
                f"row {row}: up to here the request would take {self._spent:.0f} ms, more than the {self._limit:.0f} "
                "ms that it may ([serving] max_request_milliseconds); send fewer rows at a time, fewer different "
                "filters, shorter lists or a smaller top_k",
            )

    def spend_each(self, counts: np.ndarray, nanoseconds: float) -> None:
        """Subtract the cost of `counts`, int64 [n], steps for each row."""
        if self._limit == math.inf:
            return
        row = int(counts.cumsum().searchsorted(self.most(nanoseconds), side="right"))
        if row < len(counts):
            self.spend(row, float(counts[: row + 1].sum()) * nanoseconds)
        self.spend(len(counts) - 1, float(counts.sum()) * nanoseconds)
