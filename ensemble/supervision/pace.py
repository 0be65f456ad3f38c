"""The pace of repairs: at once, but after a repair that did not hold twice as slow each time."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_HELD_SECONDS = 2.0


class Pace:
    """Exponential back-off."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock, in seconds."""
        self._clock = clock
        self._in_a_row, self._ended = 0, -float("inf")

    def pause(self) -> float:
        """Return the seconds to wait before repairing a fault that was just noticed."""
        if self._clock() - self._ended > _HELD_SECONDS:
            self._in_a_row = 0
        return min(_SHORTEST_SECONDS * 2.0 ** (self._in_a_row - 1), _LONGEST_SECONDS) if self._in_a_row else 0.0

    def repaired(self) -> None:
        """Note that a repair ended, successfully or not."""
        self._in_a_row += 1
        self._ended = self._clock()
