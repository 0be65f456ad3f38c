"""Sends canaries at an interval, from a thread of its own, so that reading the results never blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

from ensemble.client.tls import ClientTls
from ensemble.supervision.health import CanaryResult, canary

_AGAIN_SECONDS = 1.0


class Canaries:
    """Canaries for every model of a server, as a context manager."""

    def __init__(
        self, address: str, models: Sequence[str], every_seconds: float, timeout_s: float, tls: ClientTls | None = None
    ) -> None:
        """Take the server's gRPC address and the interval; a failed canary is repeated after a second."""
        self._address, self._models, self._tls = address, models, tls
        self._every, self._timeout = every_seconds, timeout_s
        self._results: SimpleQueue[tuple[float, CanaryResult]] = SimpleQueue()
        self._soon, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="canaries", daemon=True)

    def __enter__(self) -> Canaries:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._soon.set()

    def soon(self) -> None:
        """Send canaries now."""
        self._soon.set()

    def results(self) -> list[tuple[float, CanaryResult]]:
        """Return the new results, each with the time at which its canary was sent (`time.monotonic`)."""
        return [self._results.get() for _ in range(self._results.qsize())]

    def _run(self) -> None:
        while not self._ended:
            self._soon.clear()
            well = True
            for model in self._models:
                begun = time.monotonic()
                result = canary(self._address, model, self._timeout, self._tls)
                well &= result.alive
                self._results.put((begun, result))
            self._soon.wait(self._every if well else _AGAIN_SECONDS)
