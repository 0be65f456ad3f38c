"""Serving speed: the stock merlin-systems ensemble, our fused and chained layouts and a no-op model, in turns.

    .venv/bin/python -m benchmarks.serving.layouts              everything that docs/serving.md quotes, some 12 minutes
    .venv/bin/python -m benchmarks.serving.layouts --quick      a look, one point

The four servers run beside each other and perf_analyzer asks them in turns, point by point and round by round, so that
a machine that gets slower or faster meanwhile does so for all; a point is the median over the rounds. Requests are of
real test rows, each complete: user, top_k, the user's seen items left out. Stock has no such thing, and is sent the
user's columns, which ours knows by itself. On two cores shared with the load generator ratios say more than numbers.

The towers are those of recipes/movielens-100k-user.toml, which stock can serve, too. Results:
benchmarks/results/layouts.json, and layouts_start.json beside it (start to first answer, memory).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from tritonclient.utils import triton_to_np_dtype

from benchmarks.harness import ROOT, Parser, prepared, recipe_of, served, write
from ensemble.client import RetrievalClient
from ensemble.client.channels import channel_options
from ensemble.client.retry import as_input
from ensemble.layouts import CHAINED, FUSED
from ensemble.measure import perf_analyzer
from ensemble.measure.benchmark import Target, draw_requests, input_data, measure
from ensemble.measure.counters import read_memory_mb
from ensemble.measure.points import Point
from ensemble.server.server import TritonServer
from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.runs.run import Run

RECIPE = ROOT / "recipes" / "movielens-100k-user.toml"
STOCK = "executor_model"
TOP_K, REQUESTS = 100, 1000
Key = tuple[str, int, int]


class Layout(NamedTuple):
    """One server to measure."""

    name: str
    repository: Path
    model: str
    python: Path | None = None


class Plan(NamedTuple):
    """What is measured; `interval_ms` is the length of one of a measurement's three windows."""

    batches: Sequence[int]
    concurrencies: Sequence[int]
    rounds: int
    interval_ms: int
    starts: int


WHOLE, QUICK = Plan((1, 8, 32), (1, 4, 16, 64), 3, 400, 3), Plan((1,), (4,), 1, 300, 0)


def main() -> None:
    """Measure and write the results."""
    options = Parser(__doc__, "layouts").options()
    silence_libraries()
    with terminal() as out, tempfile.TemporaryDirectory(prefix="retrieval-serving-") as scratch:
        points, starts = compare(QUICK if options.quick else WHOLE, options, Path(scratch), out)
        write(options.out, msgspec.to_builtins(points))
        write(options.out.with_name("layouts_start.json"), starts)
        out.json(starts)


def compare(
    plan: Plan, options: argparse.Namespace, scratch: Path, out: Terminal
) -> tuple[list[Point], list[dict[str, Any]]]:
    """Measure the layouts; return the points and each layout's start and memory."""
    run = prepared(recipe_of(RECIPE, options), options, out, "fetch", "features", "train", "release")
    layouts = list(prepare(run, scratch, out))
    starts = [start_of(layout, run, plan.starts, out) for layout in layouts if plan.starts]
    with ExitStack() as stack:
        servers = {layout.name: stack.enter_context(serve(layout)) for layout in layouts}
        out.say("all servers answer")
        points = in_turns(run, layouts, servers, plan, scratch, out)
        for start in starts:
            start["memory_under_load_mb"] = round(read_memory_mb(servers[start["layout"]].process_id), 1)
    return points, starts


def prepare(run: Run, place: Path, out: Terminal) -> Iterator[Layout]:
    """Export the run in each layout."""
    from benchmarks.serving.noop import export_noop
    from benchmarks.serving.stock import export_stock
    from ensemble.triton.export import export_repository

    out.say("exporting")
    fused = export_repository(run.release, place / "fused")
    # In the train environment: merlin-systems' model imports NVTabular, merlin-systems and TensorFlow.
    yield Layout("stock", export_stock(run, place / "stock", TOP_K), STOCK, Path(sys.executable))
    yield Layout("fused", fused, FUSED)
    yield Layout("chained", export_repository(run.release, place / "chained", "chained"), CHAINED)
    yield Layout("noop", export_noop(fused, place / "noop", TOP_K), FUSED)


def serve(layout: Layout) -> AbstractContextManager[TritonServer]:
    """Serve a layout on free ports."""
    return served(layout.repository, model=layout.model, python=layout.python, start_timeout_seconds=400)


def start_of(layout: Layout, run: Run, times: int, out: Terminal) -> dict[str, Any]:
    """Measure how long a start takes, up to the first answer, and the memory after it; medians over `times` starts."""
    seconds, memory = [], []
    request = data_of(layout, run, 1)["data"][0]
    for _ in range(1 if layout.name == "stock" else times):
        start = time.perf_counter()
        with serve(layout) as server:
            first_answer(server.addresses.grpc, layout.model, request)
            seconds.append(time.perf_counter() - start)
            memory.append(read_memory_mb(server.process_id))
    out.step(f"{layout.name}: first answer after {statistics.median(seconds):.2f} s")
    return {
        "layout": layout.name,
        "start_to_first_answer_s": round(statistics.median(seconds), 3),
        "memory_mb": round(statistics.median(memory), 1),
        "starts": len(seconds),
    }


def first_answer(address: str, model: str, request: dict[str, Any]) -> None:
    """Ask once."""
    import tritonclient.grpc as grpc

    with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
        config = channel.get_model_config(model, as_json=True)["config"]
        batched = int(config.get("max_batch_size", 0)) > 0
        kinds = {
            field["name"]: field["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES")
            for field in config["input"]
        }
        inputs = []
        for name, entry in request.items():
            values = entry["content"] if isinstance(entry, dict) else entry
            array = np.array(values, dtype=triton_to_np_dtype(kinds[name]))
            inputs.append(as_input(name, kinds[name], array[None, :] if batched else array))
        channel.infer(model, inputs)


def data_of(layout: Layout, run: Run, batch: int, address: str | None = None) -> dict[str, Any]:
    """Return the requests in perf_analyzer's `--input-data` form."""
    drawn = draw_requests(run.directory, REQUESTS, top_k=TOP_K, seed=run.recipe.seed)
    if layout.name == "stock":
        return {"data": list(_stock_requests(run, list(drawn.user_ids), batch))}
    if address is None:
        return {"data": [{"user_id": [drawn.user_ids[0]]}]}
    with RetrievalClient(address, layout.model) as client:
        return input_data(client.signature(), drawn, batch)


def _stock_requests(run: Run, users: list[Any], batch: int) -> Iterator[dict[str, Any]]:
    """Yield requests of `batch` rows: stock's models have no batch axis of Triton's."""
    from benchmarks.serving.stock import requests

    columns = requests(run, users)
    for start in range(0, len(users) - batch + 1, batch):
        part = {name: values[start : start + batch].tolist() for name, values in columns.items()}
        yield {name: {"content": values, "shape": [batch]} for name, values in part.items()}


def in_turns(
    run: Run, layouts: Sequence[Layout], servers: dict[str, TritonServer], plan: Plan, scratch: Path, out: Terminal
) -> list[Point]:
    """Measure every point of every layout, `plan.rounds` times, and return the medians."""
    tool = perf_analyzer.find(progress=out.say)
    files = {}
    for layout in layouts:
        for batch in plan.batches:
            path = scratch / f"{run.recipe.name}-{layout.name}-{batch}.json"
            path.write_text(json.dumps(data_of(layout, run, batch, servers[layout.name].addresses.grpc)))
            files[layout.name, batch] = path
    measured: dict[Key, list[Point]] = {}
    grid = [(batch, concurrency) for batch in plan.batches for concurrency in plan.concurrencies]
    total, done, began = plan.rounds * len(grid) * len(layouts), 0, time.perf_counter()
    for number in range(plan.rounds):
        for batch, concurrency in grid:
            for layout in layouts if number % 2 == 0 else reversed(layouts):
                point = measure_one(
                    tool, layout, servers[layout.name], files[layout.name, batch], batch, concurrency, plan
                )
                measured.setdefault((layout.name, batch, concurrency), []).append(point)
                done += 1
                seconds_left = (time.perf_counter() - began) / done * (total - done)
                out.step(
                    f"{done}/{total}, {seconds_left / 60:.1f} min left: {layout.name} {batch} x {concurrency}: "
                    f"{point.rows_per_s:,.0f} rows/s, p50 {point.p50_ms:.2f} ms"
                )
    names = [layout.name for layout in layouts]
    return [median_of(measured[place]) for place in sorted(measured, key=lambda place: (names.index(place[0]), place))]


def measure_one(
    tool: perf_analyzer.PerfAnalyzer,
    layout: Layout,
    server: TritonServer,
    data: Path,
    batch: int,
    concurrency: int,
    plan: Plan,
) -> Point:
    """Measure one point once. A request of stock's counts as one inference whatever its rows."""
    target = Target(server.addresses.grpc, layout.model, layout.name, server.process_id, plan.interval_ms)
    if layout.name != "stock":
        return measure(tool, target, data, batch, concurrency)
    point = measure(tool, target, data, 1, concurrency)
    cpu = point.server_cpu_ms_per_row
    return msgspec.structs.replace(
        point,
        batch=batch,
        rows_per_s=point.rows_per_s * batch,
        server_cpu_ms_per_row=None if cpu is None else cpu / batch,
    )


def median_of(points: Sequence[Point]) -> Point:
    """Return the median of every figure; `spread` becomes that of the rounds' rows/s."""
    names = ("rows_per_s", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "server_cpu_ms_per_row")
    middle = {name: statistics.median(getattr(point, name) for point in points) for name in names}
    rates = [point.rows_per_s for point in points]
    spread = points[0].spread if len(rates) == 1 else (max(rates) - min(rates)) / statistics.fmean(rates)
    return msgspec.structs.replace(
        points[0], **{name: round(value, 5) for name, value in middle.items()}, spread=spread
    )


if __name__ == "__main__":
    main()
