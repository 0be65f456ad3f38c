"""Limits the rows that wait for a model, by refusing requests that have waited for too many.

Triton's own limit (a queue policy) makes Triton 2.51 leave requests waiting for half a second: its batcher sleeps until
the next request comes, although the model is free (docs/serving.md). So the model refuses the excess itself, at no
cost.

Triton's metrics state how many requests wait, but not of how many rows, which are only known when a request is handed
over. So the limit is enforced at that moment. Requests arrive and leave in the same order, and the counts of waiting
requests at each reading tell which requests had arrived by then, and so how many rows were done while each one waited.
A request of n rows is answered if it waited for at most `limit` - n rows, as in a queue of that many rows.

Rows are weighted by cost: a batch that takes longer than a millisecond per row counts as many rows as it took
milliseconds, and a request's own rows as those of the batches before it. So the wait is bounded whatever the rows ask
for, and a small request is still accepted among costly ones.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from typing import NamedTuple

ADDRESS = "RETRIEVAL_METRICS"
"""Environment variable: host:port of Triton's metrics."""
DEFAULT_ADDRESS = "127.0.0.1:8002"
_COUNT = re.compile(
    r"^nv_inference_(request_success|request_failure|pending_request_count)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE
)
_NEVER_QUEUED = 'reason="REJECTED"'
_PAUSE_SECONDS = 0.4
_SHORT_PAUSE_SECONDS = 0.05
"""Once a quarter of the limit has been worked off since the last reading."""
_LONG_PAUSE_SECONDS = 10.0
"""Where nothing can be read."""
_ASK_SECONDS = 2.0
_ROWS_PER_SECOND = 1000.0
_REMEMBERED = 0.75
"""What a batch weighs after the next, in what a row costs."""
_MOST_READINGS = 1000


class Reading(NamedTuple):
    """The counts of a model in Triton's metrics."""

    gone: int
    """Requests that have been answered or have failed."""
    waiting: int


class _Seen(NamedTuple):
    """A reading that is kept."""

    come: int
    """Requests that had come by then."""
    done: float
    """Rows done by then, those of the batch that was at work among them: who comes then does not wait for its whole."""


class Line:
    """The waiting requests, as known to one of the model's processes."""

    def __init__(self, limit: int) -> None:
        """Take the maximum number of rows that may wait for each process."""
        self._limit, self._lock = limit, Lock()
        self._seen: deque[_Seen] = deque(maxlen=_MOST_READINGS)
        self._gone, self._done, self._working = 0, 0.0, 0
        self._rows, self._cost = 1.0, 1.0
        self._taken = self._finished = 0

    def mark(self) -> int:
        """Return the state before a reading, for `read`."""
        return self._taken

    def read(self, reading: Reading, mark: int) -> None:
        """Evaluate a reading."""
        with self._lock:
            # What is in this process has not been answered, and does not wait either.
            gone = reading.gone + max(0, mark - self._finished)
            self._gone = gone + self._taken - mark
            come = gone + reading.waiting
            while self._seen and self._seen[-1].come > come:
                self._seen.pop()  # some of those that waited then were given up by their clients
            self._seen.append(_Seen(come, float("inf") if self._working else self._done))

    def begin(self, rows: Sequence[int]) -> list[bool]:
        """Return which of the requests, with that many rows each and in their order, are to be refused.

        Call `end` afterwards.
        """
        with self._lock:
            self._taken += len(rows)
            refused = [self._over(self._gone + position, own) for position, own in enumerate(rows)]
            self._gone += len(rows)
            self._working = sum(own for own, no in zip(rows, refused, strict=True) if not no)
            return refused

    def end(self, requests: int, seconds: float) -> float:
        """Record the duration of the requests of the last `begin`; return the rows that it counts for."""
        with self._lock:
            cost = self._count(self._working, seconds) if self._working else 0.0
            self._finished += requests
            self._done += cost
            self._working = 0
            place = len(self._seen) - 1
            while place >= 0 and self._seen[place].done == float("inf"):
                self._seen[place] = self._seen[place]._replace(done=self._done)
                place -= 1
            return cost

    def _count(self, rows: int, seconds: float) -> float:
        cost = max(float(rows), seconds * _ROWS_PER_SECOND)
        self._rows, self._cost = self._rows * _REMEMBERED + rows, self._cost * _REMEMBERED + cost
        return cost

    def _over(self, place: int, rows: int) -> bool:
        """Return whether a request in that place waited for too many rows."""
        while self._seen and self._seen[0].come <= place:
            self._seen.popleft()
        if not self._seen:
            return False
        own = min(float(self._limit), rows * self._cost / self._rows)  # one that did not wait is always answered
        return self._done - self._seen[0].done + own > self._limit


class Backlog:
    """Watches the requests that wait for a model and decides on refusals; one in each of its processes."""

    def __init__(self, name: str, version: str, limit: int, address: str, warn: Callable[[str], None]) -> None:
        """Take Triton's name and version of the model; `warn` is called once if `address` does not answer."""
        self._labels = f'model="{name}"', f'version="{version}"'
        self._host, _, port = address.rpartition(":")
        self._port, self._limit, self._warn, self._line = int(port), limit, warn, Line(limit)
        self._executed, self._hurry, self._ended, self._since = Event(), Event(), False, 0.0
        Thread(target=self._watch, name="backlog", daemon=True).start()

    def begin(self, rows: Sequence[int]) -> list[bool]:
        """See `Line.begin`."""
        self._executed.set()
        return self._line.begin(rows)

    def end(self, requests: int, seconds: float) -> None:
        """See `Line.end`."""
        self._since += self._line.end(requests, seconds)
        if self._since * 4 >= self._limit:
            self._hurry.set()

    def close(self) -> None:
        """Stop watching."""
        self._ended = True
        self._executed.set()
        self._hurry.set()

    def _watch(self) -> None:
        """Read the counts while there are requests: an idle model has no backlog."""
        warned = False
        while not self._ended:
            self._executed.wait()
            self._executed.clear()
            self._since = 0.0
            self._hurry.clear()
            try:
                mark = self._line.mark()
                self._line.read(read_metrics(self._host, self._port, self._labels), mark)
            except (OSError, HTTPException, ValueError) as error:
                if not warned:
                    self._warn(f"no limit to waiting rows: no count of requests at {self._host}:{self._port}: {error}")
                warned = True
                time.sleep(_LONG_PAUSE_SECONDS)
                continue
            time.sleep(_SHORT_PAUSE_SECONDS)
            self._hurry.wait(_PAUSE_SECONDS - _SHORT_PAUSE_SECONDS)


def read_metrics(host: str, port: int, labels: Sequence[str]) -> Reading:
    """Return the counts of the model with the labels (`model="retrieval"`) in Triton's metrics.

    Raises
    ------
    OSError, HTTPException
        Nothing answers there within two seconds.
    ValueError
        The metrics have none of this model.
    """
    connection = HTTPConnection(host, port, timeout=_ASK_SECONDS)
    try:
        # Triton waits for connections that are kept when it is told to stop.
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode("utf-8", "replace")
    finally:
        connection.close()
    return reading(text, labels)


def reading(text: str, labels: Sequence[str]) -> Reading:
    """Parse the counts of the model with the labels in a page of metrics; raise ValueError if there are none."""
    counts = {"request_success": 0, "request_failure": 0}
    for kind, value, count in _COUNT.findall(text):
        if _NEVER_QUEUED not in value and all(label in value.split(",") for label in labels):
            counts[kind] = counts.get(kind, 0) + int(float(count))
    if "pending_request_count" not in counts:
        raise ValueError("Triton's metrics have none of this model")
    return Reading(counts["request_success"] + counts["request_failure"], counts["pending_request_count"])
