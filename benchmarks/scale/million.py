"""The whole path at a million users and a million items: seconds and peak memory of every stage, against rows.

    .venv/bin/python -m benchmarks.scale.million                            # 2, 6 and 20 million rows
    .venv/bin/python -m benchmarks.scale.million --rows 2000000             # one size; the figures of others are kept
    .venv/bin/python -m benchmarks.scale.million --quick                    # 20,000 rows of 2,000 users and items

Every stage of `recipes/million.toml` has a process of its own; `serve` is from the start of Triton until it is ready,
`query` one question by the Python client, and `bench` one request at a time for some seconds. `peak_rss_mb` is the most
memory that the process had, pages of mapped files among it. Of `serve`, `query` and `bench` it is that of the process
with the model, and `private_mb` what that process shares with no file and no other process. A stage that is finished
is kept with its figures, so that a benchmark which was stopped goes on. Results: benchmarks/results/million.json and
docs/million.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from msgspec.structs import replace

from benchmarks.harness import QUICK_BATCH, ROOT, Parser, figure, in_process, machine, peak_mb, say, served, store, told
from retrieval.console import silence_libraries, terminal
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from workflows.config import Synthetic
from workflows.sources.download import cache_directory

if TYPE_CHECKING:
    from ensemble.server.server import TritonServer

ROWS = [2_000_000, 6_000_000, 20_000_000]
QUICK_ROWS, QUICK_IDS = 20_000, 2_000
TRAINED = ("fetch", "features", "train", "evaluate", "release")
SERVED = ("serve", "query", "bench")
KEY = ("rows", "stage")
MEGABYTE = 2**20
Figures = dict[str, Any]


def main() -> None:
    """Measure what has not been measured, and draw it; with --stage: run one, and print its figures."""
    parser = Parser(__doc__, "million")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="interactions; default 2, 6 and 20 million")
    parser.add_argument("--stages", choices=(*TRAINED, SERVED[0]), nargs="+", default=[*TRAINED, SERVED[0]])
    parser.add_argument("--stage", choices=TRAINED, help=argparse.SUPPRESS)
    options = parser.options()
    if options.stage:
        silence_libraries()
        sys.stdout.write(json.dumps(stage_figures(run_of(options.rows[0], options), options.stage)) + "\n")
        return
    for rows in [QUICK_ROWS] if options.quick else options.rows:
        for stage, figures in measure(rows, options):
            say(f"{rows:,} rows, {stage}: {figures['seconds']:,.1f} s, {figures['peak_rss_mb']:,} MB")
    picture = options.out.with_suffix(".png") if options.quick else ROOT / "docs" / "million.png"
    draw(results_of(options.out), picture)


def run_of(rows: int, options: argparse.Namespace) -> Run:
    """Return the run of the recipe with so many rows."""
    recipe = load_recipe(ROOT / "recipes" / "million.toml")
    ids = {"users": QUICK_IDS, "items": QUICK_IDS} if options.quick else {}
    assert isinstance(recipe.data, Synthetic)
    data = replace(recipe.data, interactions=rows, **ids)
    train = replace(recipe.train, batch_size=QUICK_BATCH) if options.quick else recipe.train
    return Run.create(replace(recipe, name=f"million-{rows}", data=data, train=train), options.runs, STAGES)


def measure(rows: int, options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Run the stages that are due, then the server; yield figures as they are stored."""
    run = run_of(rows, options)
    assert isinstance(run.recipe.data, Synthetic)
    sizes = {"rows": rows, "users": run.recipe.data.users, "items": run.recipe.data.items}
    arguments = ["--rows", rows, "--runs", options.runs, *(["--quick"] if options.quick else [])]
    for stage in (name for name in TRAINED if name in options.stages):
        done = any(entry["rows"] == rows and entry["stage"] == stage for entry in results_of(options.out))
        if not (done and run.is_finished(run.stages[stage])):
            yield stage, stored(sizes, stage, told(in_process(__file__, "--stage", stage, *arguments)), options.out)
    for stage, figures in server_figures(run) if SERVED[0] in options.stages else ():
        yield stage, stored(sizes, stage, figures, options.out)


def stored(sizes: Figures, stage: str, figures: Figures, results: Path) -> Figures:
    """Put the figures of a stage into the results and return them."""
    store({**sizes, "stage": stage, **figures, "machine": machine("tensorflow-cpu", "faiss-cpu")}, results, KEY)
    return figures


def results_of(path: Path) -> list[Figures]:
    """Return what has been measured."""
    results: list[Figures] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return results


def stage_figures(run: Run, stage: str) -> Figures:
    """Run one stage, whatever there is of it, and return its seconds and this process's peak of memory."""
    began, cpu = time.perf_counter(), time.process_time()
    with terminal() as out:
        advance(run, [stage], cache_directory(), out, force=True)
    seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_rss_mb": round(peak_mb()),
    }


def server_figures(run: Run) -> Iterator[tuple[str, Figures]]:
    """Serve the run; yield what the start, a question and a benchmark took, and the memory of the model's process."""
    from ensemble.client import RetrievalClient
    from ensemble.measure.benchmark import draw_requests
    from retrieval.runs.serving import Load, measure

    began = time.perf_counter()
    with served(run.triton) as server:
        yield "serve", memory(server, time.perf_counter() - began)
        question = draw_requests(run.directory, 1, seed=run.recipe.seed)
        with RetrievalClient(server.addresses.grpc) as client:
            began = time.perf_counter()
            client.ask(question)
            yield "query", memory(server, time.perf_counter() - began)
        began, load = time.perf_counter(), Load([1], [1], 2000)
        (point,) = measure(run, load, server.addresses.grpc, server.process_id, say)
        yield "bench", {**memory(server, time.perf_counter() - began), "p50_ms": point.p50_ms, "p99_ms": point.p99_ms}


def memory(server: TritonServer, seconds: float) -> Figures:
    """Return the seconds, and the memory of the largest process of a server."""
    root = psutil.Process(server.process_id)
    largest = max([root, *root.children(recursive=True)], key=lambda process: process.memory_info().rss)
    private = sum(mapping.private_dirty for mapping in largest.memory_maps()) // MEGABYTE
    return {"seconds": round(seconds, 3), "peak_rss_mb": round(peak_mb(largest.pid)), "private_mb": private}


def draw(results: list[Figures], path: Path) -> None:
    """Draw CPU time and memory of every stage against rows."""
    drawing, plots = figure(9, 4, "CPU seconds of each stage", "peak memory of each stage, MB")
    for stage in (*TRAINED, *SERVED):
        points = [entry for entry in results if entry["stage"] == stage]
        for axes, key in zip(plots, ("cpu_seconds", "peak_rss_mb"), strict=True):
            measured = [entry for entry in points if key in entry]
            axes.loglog([entry["rows"] for entry in measured], [entry[key] for entry in measured], "o-", label=stage)
            axes.set_xlabel("interactions")
    plots[1].axhline(8_000, color="0.6", linewidth=1, linestyle="--")
    plots[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    drawing.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
