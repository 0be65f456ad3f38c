"""A run's Triton: in the foreground, or for as long as a benchmark or the demo needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ensemble.layouts import CHAINED, FUSED, answering_models
from ensemble.measure.benchmark import Target, benchmark, draw_requests
from ensemble.measure.points import Point, save
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from retrieval.runs.run import Run
from workflows.errors import ServerError
from workflows.progress import Progress

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Load:
    """What a benchmark sends; None leaves it to the recipe's `[bench]`."""

    batches: Sequence[int] | None = None
    concurrencies: Sequence[int] | None = None
    interval_ms: int | None = None
    layout: str | None = None
    """`fused` or `chained`."""


@contextmanager
def temporary_server(
    run: Run, say: Callable[[str], None], log: Callable[[str], None] | None = None
) -> Iterator[TritonServer]:
    """Serve the run on free ports of this machine inside the block; stop the server after it."""
    run.require("release")
    grpc_port, metrics_port = free_ports(LOCALHOST, 2)
    server = TritonServer(
        run.triton,
        host=LOCALHOST,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        on_log=log or (lambda line: None),
    )
    with server:
        say(f"Triton answers at {server.addresses.grpc}")
        yield server
    say("Triton stopped")


def measure(run: Run, load: Load, address: str, server_pid: int | None, progress: Progress) -> list[Point]:
    """Benchmark the server at an address, whose process is `server_pid` if it runs here, with the run's own requests.

    The points are kept in `bench.json` and `bench.png`.
    """
    config, model = run.recipe.bench, answering_model(run, load.layout)
    layout = "chained" if model == CHAINED else "fused"
    interval = load.interval_ms or config.measurement_interval_ms
    target = Target(address, model, layout, server_pid=server_pid, measurement_interval_ms=interval)
    points = benchmark(
        target,
        draw_requests(run.directory, config.requests, seed=run.recipe.seed),
        batches=load.batches or config.batch,
        concurrencies=load.concurrencies or config.concurrency,
        progress=progress,
    )
    save(points, run.directory / "bench.json", run.directory / "bench.png")
    return points


def answering_model(run: Run, layout: str | None = None) -> str:
    """Return the model that clients of the run's repository ask: the fused one where there are both, unless told. Raise
    ServerError where it has no such layout."""
    models = answering_models(run.triton)
    if layout is None:
        return models[0] if models else FUSED
    model = {"fused": FUSED, "chained": CHAINED}.get(layout)
    if model not in models:
        remedy = f"run `retrieval release {run.directory} --layout both`"
        raise ServerError(f"{run.directory / 'triton'}: has no layout '{layout}', fused or chained; {remedy}")
    return str(model)
