"""The metrics of a server."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ensemble.server.ports import check_address
from workflows.errors import ServerError


class Samples:
    """The metrics of an address at one moment."""

    def __init__(self, samples: list[Sample]) -> None:
        """Take all samples."""
        self._samples = samples

    def find(self, name: str, **labels: str) -> Iterator[Sample]:
        """Yield the samples of a metric that have the labels."""
        for sample in self._samples:
            # The library gives counters without it, such as Triton's, the ending that OpenMetrics wants.
            if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items():
                yield sample

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric that have the labels; 0 where there are none."""
        return sum(sample.value for sample in self.find(name, **labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return that sum by the values of a label, without zeros."""
        totals: dict[str, float] = {}
        for sample in self.find(name, **labels):
            if sample.value:
                totals[sample.labels[label]] = totals.get(sample.labels[label], 0.0) + sample.value
        return totals

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Return a quantile of a histogram, interpolated between two bounds as Prometheus does; None if it is empty.

        Above the last bound the result is that bound.
        """
        counts: dict[float, float] = {}
        for sample in self.find(f"{name}_bucket", **labels):
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
        buckets = sorted(counts.items())
        if not buckets or not buckets[-1][1]:
            return None
        rank, below, before = share * buckets[-1][1], 0.0, 0.0
        for bound, count in buckets:
            if count >= rank:
                return below if bound == float("inf") else below + (bound - below) * (rank - before) / (count - before)
            below, before = bound, count
        return below


def read(address: str, timeout_s: float = 3.0) -> Samples:
    """Read `http://address/metrics`; raise ServerError if nothing answers there."""
    check_address(address)
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        # Triton waits for connections that are kept when it is told to stop.
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        return parse(connection.getresponse().read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerError(f"{address}: no metrics: {error}; is it the server's --metrics-port?") from None
    finally:
        connection.close()


def parse(text: str) -> Samples:
    """Parse a page of metrics; raise ValueError if it is not one."""
    return Samples([sample for family in text_string_to_metric_families(text) for sample in family.samples])
