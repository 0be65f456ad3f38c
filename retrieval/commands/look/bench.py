"""`retrieval bench`: how fast a run's server answers, or the server options of a run for a latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import Layout, RunPath
from retrieval.runs.run import Run

if TYPE_CHECKING:
    from retrieval.runs.serving import Load


@command
def bench(
    out: Terminal,
    run: RunPath,
    address: Annotated[
        str | None, typer.Option("--address", help="A running server; without it one is started for the benchmark.")
    ] = None,
    concurrency: Annotated[list[int] | None, typer.Option("--concurrency", help="Requests in flight.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Rows per request.")] = None,
    interval_ms: Annotated[int | None, typer.Option("--interval-ms", help="Length of a measurement window.")] = None,
    layout: Layout = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Search server options for --p99-ms instead.")] = False,
    p99_ms: Annotated[float, typer.Option("--p99-ms", help="Latency that --sweep must keep to.")] = 10.0,
    minutes: Annotated[float, typer.Option("--minutes", help="When --sweep stops.")] = 5.0,
) -> None:
    """Measure latency, throughput and server CPU with perf_analyzer, on requests drawn from the run.

    What is left out comes from the recipe's [bench]. The points are kept in bench.json, bench.png and the report.
    With --sweep: the instances, threads and queue delay that serve most rows within a latency, as lines for the recipe;
    everything measured is kept in sweep.json and sweep.png.

    \b
    retrieval bench runs/movielens-100k
    retrieval bench runs/movielens-100k --batch 1 --batch 32 --concurrency 1 --concurrency 8 --json
    retrieval bench runs/movielens-100k --address 127.0.0.1:8001
    retrieval bench runs/movielens-100k --sweep --p99-ms 10 --minutes 5
    """
    from ensemble.measure.points import table
    from retrieval.report.page import write_report
    from retrieval.runs.serving import Load, measure, temporary_server

    opened, load = Run.open(run), Load(batch, concurrency, interval_ms, layout)
    if sweep:
        _sweep(out, opened, load, p99_ms, minutes)
        return
    if address is None:
        with temporary_server(opened, out.say, out.say if out.verbose else None) as server:
            points = measure(opened, load, server.addresses.grpc, server.process_id, out.step)
    else:
        points = measure(opened, load, address, None, out.step)
    with out.working("report"):
        write_report(opened)
    out.result(points, table(points))


def _sweep(out: Terminal, run: Run, load: Load, p99_ms: float, minutes: float) -> None:
    """Search the server options with the run's own requests; keep what was found in `sweep.json` and `sweep.png`."""
    from ensemble.measure.benchmark import draw_requests
    from ensemble.measure.sweep import Objective, sweep
    from ensemble.measure.sweep_view import conclusion, draw, sweep_table
    from workflows.files import atomic_write, json_bytes

    run.require("release")
    stated = {"batches": load.batches, "concurrencies": load.concurrencies, "interval_ms": load.interval_ms}
    objective = Objective(p99_ms, minutes, **{name: value for name, value in stated.items() if value})  # type: ignore[arg-type]
    requests = draw_requests(run.directory, run.recipe.bench.requests, seed=run.recipe.seed)
    measured = sweep(run.release, requests, objective, out.step)
    atomic_write(run.directory / "sweep.json", json_bytes(measured, 2))
    atomic_write(run.directory / "sweep.png", draw(measured))
    out.result(measured, sweep_table(measured), conclusion(measured))
