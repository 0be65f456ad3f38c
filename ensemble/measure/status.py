"""Status of a running server: health, loaded models, metrics, repairs."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ensemble.layouts import CHAINED, FUSED, SEARCH, STEPS
from ensemble.measure.prometheus import Samples, read
from ensemble.server.ports import check_address, ports_beside
from ensemble.supervision.events import kept
from ensemble.supervision.health import CanaryResult, canary
from workflows.errors import ServerError

_LAST_EVENTS = 5


@dataclass(frozen=True)
class Place:
    """The addresses of a server, and the record of its supervisor."""

    grpc: str
    metrics: str
    http: str | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    """The record of its supervisor; see `ensemble/supervision/events.py`."""


@dataclass(frozen=True)
class Figures:
    """Totals of a model that clients ask, over all of its versions since the server started."""

    rows: int
    requests: int
    """Requests that the model answered or refused."""
    refused_requests: dict[str, int]
    """Refused requests by reason."""
    lost_requests: int
    """Requests lost in a process that died, or by waiting too long."""
    unknown_users: float
    """Share of the rows."""
    short_rows: float
    """Share of the rows that got fewer items than they asked for."""
    waiting: int
    """Requests in the queue now."""
    mean_ms: float | None
    """Mean time of a request in the server."""
    mean_queue_ms: float | None
    search_ms: dict[str, float]
    """p50, p90 and p99 of a batch's search, interpolated in the histogram."""
    mean_batch_rows: float | None


@dataclass(frozen=True)
class Model:
    """A model that clients ask."""

    name: str
    state: str
    reason: str
    release: str
    version: str
    seconds: float
    """Duration of the canary."""
    figures: Figures | None
    """None if the metrics do not answer."""


@dataclass(frozen=True)
class Status:
    """The state of a server."""

    grpc: str
    http: str | None
    metrics: str
    process: int | None
    started: str | None
    """UTC; known of a supervised server."""
    models: list[Model]
    items: int | None
    changes: int | None
    """Changes of a live catalogue that are in force."""
    repairs: dict[str, int] | None
    """Counts of the supervisor's events; None if there is no supervisor."""
    events: list[dict[str, Any]]
    problem: str
    """The reason why there are no figures."""

    @property
    def healthy(self) -> bool:
        """Return whether every model answers correctly."""
        return bool(self.models) and all(model.state == "healthy" for model in self.models)


def places(repository: Path) -> list[Place]:
    """Find the supervised servers of a repository that run on this machine; raise ServerError if there are none."""
    running = []
    for port, stated in kept(repository).items():
        if psutil.pid_exists(stated.get("supervisor_pid", -1)):
            host, ports = stated["host"], stated["ports"]
            http = f"{host}:{ports['http']}" if "http" in ports else None
            running.append(Place(f"{host}:{port}", f"{host}:{ports['metrics']}", http, stated))
    if not running:
        raise ServerError(
            f"{repository}: no supervised server of it runs here; give --address, or `retrieval serve` it"
        )
    return running


def metrics_address(grpc: str) -> str:
    """Return the address of the metrics of the server at a gRPC address; raise ServerError unless that is host:port.

    On this machine it is one of the other ports of the server's process, at the same host or at 127.0.0.1. Elsewhere
    the default is assumed: the next port of the same host.
    """
    check_address(grpc)
    host, _, port = grpc.rpartition(":")
    for metrics_port in ports_beside(int(port)):
        for address in dict.fromkeys((f"{host}:{metrics_port}", f"127.0.0.1:{metrics_port}")):
            with suppress(ServerError):
                if any(read(address).find("nv_inference_request_success")):
                    return address
    return f"{host}:{int(port) + 1}"


def status(place: Place) -> Status:
    """Ask a server for its health and its metrics. What does not answer is stated there; nothing is raised."""
    samples, problem = None, ""
    try:
        samples = read(place.metrics)
    except ServerError as error:
        problem = str(error)
    results = [canary(place.grpc, name) for name in (FUSED, CHAINED)]
    models = [result for result in results if result.state != "unreachable"]
    searching = SEARCH if [model.model for model in models] == [CHAINED] else FUSED
    return Status(
        place.grpc,
        place.http,
        place.metrics,
        place.kept.get("triton_pid"),
        place.kept.get("started"),
        [_model(model, samples) for model in models or [canary(place.grpc, FUSED)]],
        _gauge(samples, "retrieval_catalogue_items", searching, models),
        _gauge(samples, "retrieval_catalogue_changes", searching, models),
        place.kept.get("counts") if place.kept else None,
        place.kept.get("events", [])[-_LAST_EVENTS:],
        problem,
    )


def _model(result: CanaryResult, samples: Samples | None) -> Model:
    return Model(
        result.model,
        result.state,
        result.reason,
        result.release,
        result.version,
        round(result.seconds, 4),
        None if samples is None else figures(samples, result.model),
    )


def figures(samples: Samples, model: str) -> Figures:
    """Return the totals of a model, from its server's metrics."""
    counting = SEARCH if model == CHAINED else model
    rows = samples.total("retrieval_rows_total", model=counting)
    requests = samples.total("nv_inference_request_success", model=model)
    batches = samples.total("retrieval_batch_rows_count", model=counting)
    refused: Counter[str] = Counter()
    for name in STEPS if model == CHAINED else (model,):
        refused.update(samples.by("retrieval_refused_requests_total", "reason", model=name))
    quantiles = {
        share: samples.quantile("retrieval_search_seconds", share / 100, model=counting) for share in (50, 90, 99)
    }
    return Figures(
        int(rows),
        int(requests),
        {reason: int(count) for reason, count in refused.items()},
        int(samples.total("nv_inference_request_failure", model=model)),
        _share(samples.total("retrieval_unknown_users_total", model=counting), rows),
        _share(samples.total("retrieval_short_rows_total", model=counting), rows),
        int(samples.total("nv_inference_pending_request_count", model=model)),
        _mean_ms(samples, "nv_inference_request_duration_us", model, requests),
        _mean_ms(samples, "nv_inference_queue_duration_us", model, requests),
        {f"p{share}": round(1e3 * seconds, 3) for share, seconds in quantiles.items() if seconds is not None},
        round(samples.total("retrieval_batch_rows_sum", model=counting) / batches, 2) if batches else None,
    )


def _mean_ms(samples: Samples, name: str, model: str, requests: float) -> float | None:
    return round(samples.total(name, model=model) / requests / 1e3, 3) if requests else None


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0


def _gauge(samples: Samples | None, name: str, model: str, answered: list[CanaryResult]) -> int | None:
    """Return a gauge of the version that answers; earlier versions leave theirs behind."""
    if samples is None or not answered:
        return None
    values = [sample.value for sample in samples.find(name, model=model, version=answered[0].version)]
    return int(values[-1]) if values else None
