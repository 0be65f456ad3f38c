"""Wait for something to become true, for a minute or two at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 120
"""Longer than anything here takes on a busy machine."""


def until(true: Callable[[], Any], context: object = "") -> Any:
    """Return what `true` returns once it is something; otherwise fail and show `context`."""
    deadline = time.monotonic() + SECONDS
    while not (value := true()):
        assert time.monotonic() < deadline, context
        time.sleep(0.05)
    return value
