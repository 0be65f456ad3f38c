"""Counters of a served model, added up in the process and passed to Triton's metrics by a thread at intervals.

Passing one number takes some 50 microseconds of two processes, adding it up here a tenth of one. Triton adds the
numbers of a model's processes, and keeps them when a model is reloaded.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from threading import Event, Thread
from typing import Any

REPORT_SECONDS = 2.0
_SEARCH_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
_BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LINES_PER_SECOND, _BURST = 10.0, 20.0
_COLUMN = re.compile(r"column '([^']+)'")

Labels = tuple[tuple[str, str], ...]

HELP = {
    "retrieval_rows_total": "Rows answered",
    "retrieval_unknown_users_total": "Rows answered for a user that the release does not know",
    "retrieval_short_rows_total": "Rows with fewer items than were asked for",
    "retrieval_filtered_candidates_total": "Items left out of answers: excluded (seen or named) or not let by a filter",
    "retrieval_refused_rows_total": "Rows of requests that were refused, by the input at fault",
    "retrieval_refused_requests_total": "Requests that were refused, by the input at fault, queue or internal",
    "retrieval_search_seconds_bucket": "Batches whose search took at most this long",
    "retrieval_search_seconds_sum": "Time spent in searching, seconds",
    "retrieval_search_seconds_count": "Batches searched",
    "retrieval_batch_rows_bucket": "Batches of at most so many rows",
    "retrieval_batch_rows_sum": "Rows of all batches",
    "retrieval_batch_rows_count": "Batches",
    "retrieval_release_info": "1: the release that this model serves; 0: one that it served before",
    "retrieval_catalogue_items": "Items that can be answered with",
    "retrieval_catalogue_changes": "Changes of a live catalogue in force",
}
"""The metrics by name, with what Triton says of them: counters, but for `GAUGES`."""
GAUGES = ("retrieval_release_info", "retrieval_catalogue_items", "retrieval_catalogue_changes")


class Histogram:
    """Counts of values below each of several bounds."""

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        """Take the metric's name and the bounds, ascending."""
        self._name, self._bounds = name, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def totals(self) -> Iterator[tuple[str, Labels, float]]:
        """Yield the series of a Prometheus histogram."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f"{self._name}_bucket", (("le", str(bound)),), total
        yield f"{self._name}_sum", (), self._sum
        yield f"{self._name}_count", (), total


class Tally:
    """Counters of this process since its start. They only grow, so that another thread can read them."""

    def __init__(self, inputs: Collection[str] = (), searches: bool = False) -> None:
        """Take the names of the model's inputs, which an error may be blamed on, and whether the model searches."""
        self._inputs, self._searches = inputs, searches
        self._rows = self._unknown = self._short = self._excluded = self._filtered = 0
        self._refused_rows: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._search = Histogram("retrieval_search_seconds", _SEARCH_SECONDS)
        self._batch = Histogram("retrieval_batch_rows", _BATCH_ROWS)

    def answered(self, rows: int, unknown: int) -> None:
        """Count a batch of rows, and those of them with unknown users."""
        self._rows += rows
        self._unknown += unknown
        self._batch.add(rows)

    def searched(self, seconds: float, short: int, excluded: int, filtered: int) -> None:
        """Count the seconds of a batch's search, the rows that it did not fill, and the excluded items."""
        self._search.add(seconds)
        self._short += short
        self._excluded += excluded
        self._filtered += filtered

    def refused(self, reason: str, rows: int, requests: int = 1) -> None:
        """Count refused requests."""
        self._refused[reason] += requests
        self._refused_rows[reason] += rows

    def reason(self, message: str) -> str:
        """Return the input that a refusal names, one of few whatever clients send."""
        match = _COLUMN.match(message)
        return match[1] if match is not None and match[1] in self._inputs else "query"

    def totals(self) -> Iterator[tuple[str, Labels, float]]:
        """Yield name, labels and value of every counter."""
        yield "retrieval_rows_total", (), self._rows
        yield "retrieval_unknown_users_total", (), self._unknown
        for name, refused in (("rows", self._refused_rows), ("requests", self._refused)):
            for why, count in refused.copy().items():
                yield f"retrieval_refused_{name}_total", (("reason", why),), count
        yield from self._batch.totals()
        if self._searches:
            yield "retrieval_short_rows_total", (), self._short
            yield "retrieval_filtered_candidates_total", (("by", "excluded"),), self._excluded
            yield "retrieval_filtered_candidates_total", (("by", "filter"),), self._filtered
            yield from self._search.totals()


class Reporter:
    """Passes a tally to Triton's metrics every two seconds, from a thread of its own."""

    catalogue: tuple[int, int] | None = None
    """Items and changes in force, of a model that searches."""

    def __init__(self, tally: Tally, families: Any, labels: Mapping[str, str], release: str) -> None:
        """Take the tally, Triton's `MetricFamily`, labels for all metrics (the model), and the release."""
        self._tally, self._made, self._labels = tally, families, dict(labels)
        self._release: Labels = (("release", release),)
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, Labels], Any] = {}
        self._handed: dict[tuple[str, Labels], float] = {}
        self._ended, self._server = Event(), os.getppid()
        self._hand_over()
        self._thread = Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on what is left; this process no longer serves the release."""
        self._ended.set()
        if self._abandoned():
            return
        self._thread.join()
        self._hand_over()
        self._metric("retrieval_release_info", self._release).set(0)

    def _run(self) -> None:
        while not self._ended.wait(REPORT_SECONDS) and not self._abandoned():
            self._hand_over()

    def _abandoned(self) -> bool:
        """Return whether Triton was killed, in which case a call would never return and keep this process alive."""
        return os.getppid() != self._server

    def _hand_over(self) -> None:
        # Again and again, for another process of this release sets it to 0 when it ends.
        self._metric("retrieval_release_info", self._release).set(1)
        if self.catalogue is not None:
            for name, value in zip(GAUGES[1:], self.catalogue, strict=True):
                if self._handed.get((name, ())) != value:
                    self._metric(name, ()).set(value)
                    self._handed[name, ()] = value
        for name, labels, total in self._tally.totals():
            # Made at once, though at 0: a rate is of what comes on top of a value that was seen.
            metric, more = self._metric(name, labels), total - self._handed.get((name, labels), 0)
            if more:
                metric.increment(more)
                self._handed[name, labels] = total

    def _metric(self, name: str, labels: Labels) -> Any:
        key = name, labels
        if key not in self._metrics:
            if name not in self._families:
                kind = self._made.GAUGE if name in GAUGES else self._made.COUNTER
                self._families[name] = _kept(self._made(name=name, description=HELP[name], kind=kind))
            self._metrics[key] = _kept(self._families[name].Metric(labels={**self._labels, **dict(labels)}))
        return self._metrics[key]


def _kept(metric: Any) -> Any:
    """Return an object of Triton's that is never freed, not even when the interpreter ends.

    Freeing it would free the metric in the server, which all processes with these labels share: the others would write
    to freed memory, and the server would crash (Triton 2.51).
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(metric))
    return metric


class RequestLog:
    """Log lines on single requests, JSON, at a limited rate."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the model's name."""
        self._model, self._clock = model, clock
        self._tokens, self._last, self._suppressed = _BURST, clock(), 0

    def line(self, event: str, request_id: str, **facts: Any) -> str | None:
        """Return a line for the log, or None if there were too many."""
        now = self._clock()
        self._tokens = min(_BURST, self._tokens + (now - self._last) * _LINES_PER_SECOND)
        self._last = now
        if self._tokens < 1:
            self._suppressed += 1
            return None
        self._tokens -= 1
        suppressed, self._suppressed = self._suppressed, 0
        more = {"suppressed": suppressed} if suppressed else {}
        return json.dumps({"event": event, "model": self._model, "request_id": request_id, **facts, **more})
