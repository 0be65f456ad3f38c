"""Serving speed: the stock merlin-systems ensemble, our fused and chained layouts and a no-op model, in turns.

    .venv/bin/python -m benchmarks.serving.layouts              everything that docs/serving.md quotes, some 12 minutes
    .venv/bin/python -m benchmarks.serving.layouts --quick      a look, one point

The four servers run beside each other and perf_analyzer asks them in turns, point by point and round by round, so that
a machine that gets slower or faster meanwhile does so for all; a point is the median over the rounds. Requests are of
real test rows, each complete: user, top_k, the user's seen items left out. Stock has no such thing, and is sent the
user's columns, which ours knows by itself. On two cores shared with the load generator ratios say more than numbers.

Results: benchmarks/results/layouts.json on the towers of recipes/movielens-100k-user.toml, which stock can serve too;
layouts_start.json (start to first answer, memory) beside it; layouts_history.json on recipes/movielens-100k.toml, whose
query has a history, for ours and the no-op model.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.table import Table
from tritonclient.utils import triton_to_np_dtype

from benchmarks.harness import ROOT, Parser, prepared, recipe_of, served, write
from ensemble.client import RetrievalClient
from ensemble.client.channels import channel_options
from ensemble.client.retry import as_input
from ensemble.client.tensors import Query
from ensemble.layouts import CHAINED, FUSED
from ensemble.measure import perf_analyzer
from ensemble.measure.benchmark import Target, draw_requests, input_data, measure
from ensemble.measure.counters import read_memory_mb
from ensemble.measure.points import Point
from ensemble.server.server import TritonServer
from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from workflows.sources.download import cache_directory

LAYOUTS = ("stock", "fused", "chained", "noop")
STOCK = "executor_model"
TOP_K, REQUESTS = 100, 1000
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Layout:
    """One server to measure."""

    name: str
    repository: Path
    model: str
    python: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    batches: Sequence[int]
    concurrencies: Sequence[int]
    rounds: int
    interval_ms: int
    starts: int
    skipped: frozenset[Key] = frozenset()


def main() -> None:
    """Measure and write the results."""
    arguments = _arguments()
    silence_libraries()
    quick = arguments.quick
    plan = Plan((1,) if quick else (1, 8, 32), (4,) if quick else (1, 4, 16, 64), *arguments.effort)
    history = Plan((1, 32), (1, 16), *arguments.effort)
    with terminal() as out, tempfile.TemporaryDirectory(prefix="retrieval-serving-") as scratch:
        layouts = [layout for layout in LAYOUTS if layout in arguments.layouts]
        points, starts = compare(
            ROOT / "recipes/movielens-100k-user.toml", layouts, plan, arguments, Path(scratch), out
        )
        write(arguments.out, msgspec.to_builtins(points))
        write(arguments.out.with_name("layouts_start.json"), starts)
        report(out, points, starts)
        ours = [layout for layout in layouts if layout != "stock"]
        if not arguments.no_history and not quick and ours:
            points, starts = compare(ROOT / "recipes/movielens-100k.toml", ours, history, arguments, Path(scratch), out)
            write(arguments.out.with_name("layouts_history.json"), msgspec.to_builtins(points))
            report(out, points, starts)


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__, "layouts")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--interval-ms", type=int, help="length of one of a measurement's three windows; default 400")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS)
    parser.add_argument("--no-history", action="store_true", help="leave the recipe with history out")
    arguments = parser.options()
    arguments.effort = (
        arguments.rounds or (1 if arguments.quick else 3),
        arguments.interval_ms or (300 if arguments.quick else 400),
    )
    arguments.effort += (0 if arguments.quick else 3,)
    return arguments


def compare(
    recipe: Path, names: Sequence[str], plan: Plan, arguments: argparse.Namespace, scratch: Path, out: Terminal
) -> tuple[list[Point], list[dict[str, Any]]]:
    """Measure the layouts `names` of one recipe; return the points and each layout's start and memory."""
    run = released(recipe, arguments, out)
    layouts = list(prepare(run, names, scratch / run.recipe.name, out))
    starts = [start_of(layout, run, plan.starts, out) for layout in layouts if plan.starts]
    with ExitStack() as stack:
        servers = {layout.name: stack.enter_context(serve(layout)) for layout in layouts}
        out.say("all servers answer")
        points = in_turns(run, layouts, servers, plan, scratch, out)
        for start in starts:
            start["memory_under_load_mb"] = round(read_memory_mb(servers[start["layout"]].process_id), 1)
    return points, starts


def released(path: Path, options: argparse.Namespace, out: Terminal) -> Run:
    """Return a run of the recipe, released by the code as it is. Towers that are there do, however old they are, if the
    features that are made now are those which they were trained with."""
    recipe = recipe_of(path, options)
    run = Run.create(recipe, options.runs, STAGES)
    if options.quick or not (run.directory / "towers").is_dir():
        return prepared(recipe, options, out, "fetch", "features", "train", "release")
    for stage in ("fetch", "features", "release"):
        with out.working(stage):
            run.stages[stage].work(run.job(cache_directory(), out.step))
    return run


def prepare(run: Run, names: Sequence[str], place: Path, out: Terminal) -> Iterator[Layout]:
    """Export the run in each layout."""
    from ensemble.triton.export import export_repository

    release = run.directory / "release"
    fused = export_repository(release, place / "fused")
    for name in names:
        out.say(f"exporting {name}")
        if name == "fused":
            yield Layout(name, fused, FUSED)
        elif name == "noop":
            from benchmarks.serving.noop import export_noop

            yield Layout(name, export_noop(fused, place / "noop", TOP_K), FUSED)
        elif name == "stock":
            from benchmarks.serving.stock import export_stock

            # The train environment: merlin-systems' model imports NVTabular, merlin-systems and TensorFlow.
            yield Layout(name, export_stock(run, place / "stock", TOP_K), STOCK, Path(sys.executable))
        elif name == "chained":
            yield Layout(name, export_repository(release, place / "chained", "chained"), CHAINED)


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
    return _real_requests(layout, drawn, batch, address)


def _real_requests(layout: Layout, drawn: Query, batch: int, address: str) -> dict[str, Any]:
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
    return [
        median_of(points)
        for _, points in sorted(measured.items(), key=lambda pair: (LAYOUTS.index(pair[0][0]), pair[0]))
    ]


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


def report(out: Terminal, points: Sequence[Point], starts: Sequence[dict[str, Any]]) -> None:
    """Print the ratios that the targets are about, and start and memory."""
    at = {(point.layout, point.batch, point.concurrency): point for point in points}
    shown = Table(title="Ratios", title_justify="left")
    shown.add_column("rows x in flight")
    for name in ("fused rows/s", "rows/s\nfused / stock", "CPU per row\nfused / noop", "p50\nfused / noop"):
        shown.add_column(name, justify="right")
    shown.add_column("CPU per row\nchained / fused", justify="right")
    for batch, concurrency in dict.fromkeys((point.batch, point.concurrency) for point in points):
        stock, fused, chained, noop = (at.get((name, batch, concurrency)) for name in LAYOUTS)
        shown.add_row(
            f"{batch} x {concurrency}",
            "" if fused is None else f"{fused.rows_per_s:,.0f}",
            _ratio(fused, stock, "rows_per_s"),
            _ratio(fused, noop, "server_cpu_ms_per_row"),
            _ratio(fused, noop, "p50_ms"),
            _ratio(chained, fused, "server_cpu_ms_per_row"),
        )
    out.show(shown)
    for start in starts:
        seconds, loaded = start["start_to_first_answer_s"], start["memory_under_load_mb"]
        memory = f"{start['memory_mb']:.0f} MB, {loaded:.0f} MB after the load"
        out.results.print(f"{start['layout']}: first answer after {seconds:.2f} s; {memory}")


def _ratio(over: Point | None, under: Point | None, name: str) -> str:
    return "" if over is None or under is None else f"{getattr(over, name) / getattr(under, name):.2f}"


if __name__ == "__main__":
    main()
