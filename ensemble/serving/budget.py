"""What answering a request would take, added up before it is done, and refused where that is too much."""

from __future__ import annotations

import math

from .errors import InvalidRequest


class TooMuch(InvalidRequest):
    """Answering would take longer than a request may; with others it might be this one or the others that does."""

    def __init__(self, row: int, message: str) -> None:
        """Take the row, of all that are answered together, up to which there was time."""
        super().__init__(message)
        self.row = row


class Budget:
    """The time that is left for the rows that are answered together; predicted, not measured."""

    def __init__(self, milliseconds: float = math.inf) -> None:
        """Take how long the answer may take."""
        self._limit = milliseconds
        self._spent = 0.0

    def spend(self, row: int, nanoseconds: float) -> None:
        """Take what some step for a row will take; raise TooMuch where that is more than is left."""
        self._spent += nanoseconds * 1e-6
        if self._spent > self._limit:
            raise TooMuch(
                row,
                f"row {row}: up to this row the request would take {self._spent:.0f} ms of one core, more than the "
                f"{self._limit:.0f} ms that it may (max_request_milliseconds of [serving]); send fewer rows, fewer "
                "different filters, shorter lists or a smaller top_k",
            )
