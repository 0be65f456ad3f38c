"""The view of serving: what a running server serves and has done, looked at again and again."""

from __future__ import annotations

import time
from collections import deque
from itertools import pairwise
from typing import Any, NamedTuple

from ensemble.index.drift import Quality
from ensemble.measure.status import Figures, Place, Status, metrics_address, status
from retrieval.explore.views.drift import Drift
from retrieval.report.charts import Series, line_chart

KEPT = 150


class Sample(NamedTuple):
    """What a server had done at a time."""

    seconds: float
    rows: int
    requests: int
    total_ms: float
    """Of all requests together."""
    waiting: int


class Watch:
    """A server, and what was seen of it lately."""

    def __init__(self, address: str, drift: Drift) -> None:
        self._address, self._drift = address, drift
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def page(self) -> dict[str, Any]:
        """Ask the server once more and return what the page shows; raise ServerError where it is no address."""
        server = status(Place(self._address, metrics_address(self._address)))
        figures = next((model.figures for model in server.models if model.figures), None)
        if figures:
            self._keep(figures)
        drift = self._drift.look()
        told = notes(server) + (list(drift.reasons) if isinstance(drift, Quality) else [drift] if drift else [])
        index = drift if isinstance(drift, Quality) else None
        return {"found": server, "figures": figures, "charts": self._charts(), "notes": told, "index": index}

    def _keep(self, figures: Figures) -> None:
        sample = Sample(
            time.monotonic(),
            figures.rows,
            figures.requests,
            (figures.mean_ms or 0.0) * figures.requests,
            figures.waiting,
        )
        if self._samples and sample.requests < self._samples[-1].requests:  # it was started again
            self._samples.clear()
        self._samples.append(sample)

    def _charts(self) -> list[tuple[str, str]]:
        """Return (title, svg) of rows a second and milliseconds a request between looks, over the last minutes."""
        samples = list(self._samples)
        pairs = [pair for pair in pairwise(samples) if pair[1].seconds > pair[0].seconds]
        if len(pairs) < 2:
            return []
        ago = [round(later.seconds - samples[-1].seconds, 1) for _, later in pairs]
        rates = [(later.rows - before.rows) / (later.seconds - before.seconds) for before, later in pairs]
        means = [
            (later.total_ms - before.total_ms) / max(1, later.requests - before.requests) for before, later in pairs
        ]
        return [
            ("Rows answered", line_chart([Series("rows per second", ago, rates)], "seconds ago", "rows per second")),
            ("Latency", line_chart([Series("mean, ms", ago, means)], "seconds ago", "mean of a request, ms")),
        ]


def notes(server: Status) -> list[str]:
    """Return what somebody who looks after the server should know."""
    told = [f"{model.name}: {model.state}, {model.reason}" for model in server.models if model.reason]
    if server.problem:
        told.append(f"no figures: {server.problem}")
    for model in server.models:
        figures = model.figures
        if figures and figures.refused_requests:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(figures.refused_requests.items()))
            told.append(f"{model.name}: refused requests: {reasons}")
        if figures and figures.lost_requests:
            told.append(f"{model.name}: {figures.lost_requests:,} requests were lost")
        if figures and figures.unknown_users > 0.5:
            told.append(
                f"{model.name}: {figures.unknown_users:.0%} of the rows are of users whom the release does not know"
            )
    return told
