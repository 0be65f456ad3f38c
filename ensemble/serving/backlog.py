"""How many requests wait for a model, and how many of them it must refuse.

Triton's own limit (a queue policy) makes Triton 2.51 leave requests waiting for half a second: its batcher sleeps until
the next request comes, although the model is free (docs/serving.md). So the model itself refuses what is too much: it
reads Triton's count of what waits for it and refuses the oldest, without any work for them, until the rest is within
the limit. The oldest, since their clients have waited longest and are the next to give up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread

ADDRESS = "RETRIEVAL_METRICS"
"""Environment variable: host:port of Triton's metrics."""
DEFAULT_ADDRESS = "127.0.0.1:8002"
_COUNT = r'^nv_inference_pending_request_count\{{model="{}",version="{}"\}} ([0-9.e+]+)$'
_PAUSE_SECONDS = 0.4
_SHORT_PAUSE_SECONDS = 0.05
"""While a quarter of the limit waits."""
_LONG_PAUSE_SECONDS = 10.0
"""Where nothing can be read."""
_ASK_SECONDS = 2.0


class Backlog:
    """Refuses requests where more than `limit` wait; each of the model's processes has one, and its share of them."""

    def __init__(
        self, name: str, version: str, limit: int, processes: int, address: str, warn: Callable[[str], None]
    ) -> None:
        """Take Triton's name and version of the model; `warn` is told, once, if nothing can be read at `address`."""
        self._pattern = re.compile(_COUNT.format(re.escape(name), re.escape(version)), re.MULTILINE)
        self._host, _, port = address.rpartition(":")
        self._port, self._limit, self._processes, self._warn = int(port), limit, processes, warn
        self._excess, self._taken, self._executed, self._ended = 0, 0, Event(), False
        Thread(target=self._watch, name="backlog", daemon=True).start()

    def refused(self, count: int) -> int:
        """Return how many of the `count` requests that Triton hands over, the first ones, are to be refused."""
        self._executed.set()
        self._taken += count
        if not self._excess:
            return 0
        refused = min(self._excess, count)
        self._excess -= refused
        return refused

    def close(self) -> None:
        """Watch no longer."""
        self._ended = True
        self._executed.set()

    def _watch(self) -> None:
        """Read the count, as long as there is something to do: an idle model has no backlog."""
        warned = False
        while not self._ended:
            self._executed.wait()
            self._executed.clear()
            try:
                taken = self._taken
                waiting = self._waiting()
                waiting -= self._taken - taken  # what was taken meanwhile does not wait
                self._excess = -(-max(0, waiting - self._limit) // self._processes)
                pause = _SHORT_PAUSE_SECONDS if waiting * 4 >= self._limit else _PAUSE_SECONDS
            except (OSError, HTTPException, ValueError) as error:
                self._excess, pause = 0, _LONG_PAUSE_SECONDS
                if not warned:
                    self._warn(f"no limit to waiting requests: no count of them at {self._host}:{self._port}: {error}")
                warned = True
            time.sleep(pause)

    def _waiting(self) -> int:
        connection = HTTPConnection(self._host, self._port, timeout=_ASK_SECONDS)
        try:
            # Triton waits for connections that are kept when it is told to stop.
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            found = self._pattern.search(connection.getresponse().read().decode("utf-8", "replace"))
        finally:
            connection.close()
        if found is None:
            raise ValueError("Triton's metrics have none of this model")
        return int(float(found[1]))
