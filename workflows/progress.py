"""How far long work is, told to the user who waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str], None]
SECONDS = 2.0


def silent(message: str) -> None:
    """Tell nobody."""


def regularly(progress: Progress, message: str, of: int, seconds: float = SECONDS) -> Callable[[int], None]:
    """Return what is to be called with how much of `of` is done; it passes `message`, which has a place for each of the
    two numbers, on to `progress` when so many seconds have gone by since it last did, or since now."""
    reported = time.monotonic()

    def report(done: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= seconds and done < of:
            reported = time.monotonic()
            progress(message.format(done, of))

    return report
