"""Prometheus metrics as text (https://prometheus.io/docs/instrumenting/exposition_formats), read."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import NamedTuple

from ensemble.server.ports import check_address
from workflows.errors import ServerError

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    """One value of one metric."""

    name: str
    labels: dict[str, str]
    value: float


class Samples:
    """What an address said at one moment."""

    def __init__(self, samples: list[Sample]) -> None:
        """Take all samples."""
        self._samples = samples

    def find(self, name: str, **labels: str) -> Iterator[Sample]:
        """Yield the samples of a metric that have the labels."""
        for one in self._samples:
            if one.name == name and labels.items() <= one.labels.items():
                yield one

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric that have the labels; 0 where there are none."""
        return sum(one.value for one in self.find(name, **labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return that sum for each value of a label, those that are not 0."""
        found: dict[str, float] = {}
        for one in self.find(name, **labels):
            if one.value:
                found[one.labels[label]] = found.get(one.labels[label], 0.0) + one.value
        return found

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Return a quantile of a histogram, between two bounds by proportion, as Prometheus does; None if it is empty.

        Above the last bound that bound is returned.
        """
        counts: dict[float, float] = {}
        for one in self.find(f"{name}_bucket", **labels):
            bound = float(one.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + one.value
        buckets = sorted(counts.items())
        if not buckets or not buckets[-1][1]:
            return None
        wanted, below, before = share * buckets[-1][1], 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted:
                return (
                    below if bound == float("inf") else below + (bound - below) * (wanted - before) / (count - before)
                )
            below, before = bound, count
        return below


def read(address: str, timeout_s: float = 3.0) -> Samples:
    """Return what `http://address/metrics` says; raise ServerError where nothing does."""
    check_address(address)
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        # Triton waits for connections that are kept when it is told to stop.
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerError(f"{address}: no metrics: {error}; is it the server's --metrics-port?") from None
    finally:
        connection.close()
    return Samples(list(parse(text)))


def parse(text: str) -> Iterator[Sample]:
    """Yield the samples of a page of metrics."""
    for line in text.splitlines():
        found = None if line.startswith("#") else _LINE.fullmatch(line)
        if found is not None:
            labels = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _LABEL.findall(found[2] or "")}
            yield Sample(found[1], labels, float(found[3]))
