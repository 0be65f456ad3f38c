"""What the benchmarks share: their options, small tables for `--quick`, results as JSON, mean and spread.

Each runs as `python -m benchmarks.FOLDER.NAME` and writes benchmarks/results/NAME.json. With `--quick` it takes seconds
and writes to runs/quick/NAME/ instead, and its runs, which all benchmarks share, to runs/quick/runs/;
benchmarks/smoke.py (`make benchmarks-smoke`) runs all of them so.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from retrieval.console import Terminal
from retrieval.recipes.recipe import Recipe, load_recipe
from retrieval.runs.run import Job, Run, Stage, advance
from workflows.files import atomic_write
from workflows.sources.download import cache_directory

if TYPE_CHECKING:
    from ensemble.server.server import TritonServer
    from workflows.tables.store import Tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
QUICK = ROOT / "runs" / "quick"
QUICK_ROWS, QUICK_BATCH = 10_000, 1024
"""Interactions that are kept with `--quick`, and rows of a training batch."""


class Parser(argparse.ArgumentParser):
    """The options of a benchmark: `--quick`, `--runs`, `--out` and its own."""

    def __init__(self, description: str | None, name: str, runs: str = "benchmarks", seeds: Sequence[int] = ()) -> None:
        """Take the module's docstring, the names of the results and of the folder in runs/ for what is kept, and the
        seeds of `--seeds`; `--quick` takes the first."""
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._name = name
        self._places = {"out": RESULTS / f"{name}.json", "runs": ROOT / "runs" / runs}
        self.add_argument("--quick", action="store_true", help="a look, in seconds: little data, other results")
        self.add_argument("--runs", type=Path, help=f"what is made on the way and kept; default runs/{runs}")
        self.add_argument("--out", type=Path, help=f"default benchmarks/results/{name}.json; pictures lie beside it")
        if seeds:
            self.add_argument("--seeds", nargs="+", type=int, default=list(seeds), help=f"default {seeds}")

    def options(self) -> argparse.Namespace:
        """Parse the command line; with `--quick`, whatever is written goes to a folder of its own."""
        options = self.parse_args()
        quick = {"out": QUICK / self._name / f"{self._name}.json", "runs": QUICK / "runs"}
        places = quick if options.quick else self._places
        for option, path in places.items():
            setattr(options, option, (getattr(options, option) or path).absolute())
        options.out.parent.mkdir(parents=True, exist_ok=True)
        if options.quick and "seeds" in options:
            options.seeds = options.seeds[:1]
        return options


def prepared(
    recipe: Recipe,
    options: argparse.Namespace,
    out: Terminal,
    *stages: str,
    change: Callable[[Tables], Tables] | None = None,
) -> Run:
    """Return the recipe's run under `--runs` with the outputs of the stages, by default tables and features.

    `change` is made to the tables once they are fetched; with `--quick` there are QUICK_ROWS interactions, drawn at
    random. The CPU seconds of a stage are kept in `cpu-STAGE.json`. Another benchmark that makes the same run is waited
    for.
    """
    run = Run.create(recipe, options.runs)
    changes = [*([few] if options.quick else []), *([change] if change else [])]
    run.stages.update({name: replace(stage, work=_worked(stage, changes)) for name, stage in run.stages.items()})
    run.directory.mkdir(parents=True, exist_ok=True)
    with _locked(run.directory):
        advance(run, stages or ("fetch", "features"), cache_directory(), out)
    return run


def few(tables: Tables) -> Tables:
    """Return the tables with QUICK_ROWS of the interactions."""
    drawn = tables.interactions.sample(min(QUICK_ROWS, len(tables.interactions)), random_state=0).sort_index()
    return replace(tables, interactions=drawn.reset_index(drop=True))


def _worked(stage: Stage, changes: Sequence[Callable[[Tables], Tables]]) -> Callable[[Job], None]:
    def work(job: Job) -> None:
        began = time.process_time()
        stage.work(job)
        write(job.run.directory / f"cpu-{stage.name}.json", time.process_time() - began)
        if stage.name == "fetch" and changes:
            from workflows.tables.store import Tables

            tables = Tables.load(job.run.directory / "tables")
            for change in changes:
                tables = change(tables)
            tables.save(job.run.directory / "tables")

    return work


def recipe_of(path: Path, options: argparse.Namespace) -> Recipe:
    """Load a recipe; with `--quick`, one that trains for an epoch and without teachers."""
    recipe = load_recipe(path)
    if not options.quick:
        return recipe
    short: dict[str, Any] = {"epochs": 1, "patience": 1, "refit": False, "batch_size": QUICK_BATCH}
    train = msgspec.structs.replace(recipe.train, distillation=None, **short)
    return msgspec.structs.replace(recipe, train=train)


@contextmanager
def served(repository: Path, **options: Any) -> Iterator[TritonServer]:
    """Serve a model repository on free ports of this machine; `options` are those of TritonServer."""
    from ensemble.server.ports import free_ports
    from ensemble.server.server import TritonServer

    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port, **options) as server:
        yield server


def released(parts: tuple[Path, Path, Path, Path | None], name: str) -> Path:
    """Write a release with exact search, uncompared; `parts` are its features, its towers, its place and its ranker."""
    from ensemble.config import Index
    from ensemble.release.write import Parts, Settings, Training, write_release

    return write_release(Parts(*parts), Training(), Settings(name, "0" * 64, index=Index(kind="flat"))).path


def in_turns(calls: Mapping[str, Callable[[Any], Any]], questions: Sequence[Any], turn: int = 1) -> dict[str, float]:
    """Return the median milliseconds of each call; they take turns, `turn` questions at a time, on the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number, start in enumerate(range(0, len(questions), turn)):
        for name in sorted(calls, reverse=bool(number % 2)):
            for question in questions[start : start + turn]:
                began = time.perf_counter()
                calls[name](question)
                seconds[name].append(time.perf_counter() - began)
    return {name: round(1000 * statistics.median(spent), 4) for name, spent in seconds.items()}


def module_of(file: str | Path) -> str:
    """Return the name of a file of benchmarks/ as `python -m` takes it."""
    return ".".join(Path(file).resolve().relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


def in_process(file: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a benchmark's own file with other arguments; `told` reads what it says at its end."""
    command = [sys.executable, "-m", module_of(file), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON object in the last line that a process prints, once it has ended."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed (exit code {process.returncode})")
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def machine(*packages: str) -> dict[str, Any]:
    """Return what figures depend on: cores, processor, load, and the versions of Python and packages."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def peak_mb(process: int | str = "self") -> float:
    """Return the most resident memory that a process has had, in MB, by the kernel's account.

    Not `getrusage`: a process inherits that figure from the one that started it.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def named(recipe: Path) -> str:
    """Return a recipe's path as results have it."""
    return recipe.resolve().relative_to(ROOT).as_posix()


def say(text: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write(path: Path, content: Any) -> None:
    """Write results as JSON."""
    atomic_write(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def store(entry: dict[str, Any], results: Path, key: Sequence[str]) -> None:
    """Replace the entry of the same `key` in a list of results; another process that does so waits meanwhile."""

    def name(result: dict[str, Any]) -> list[str]:
        return [result[part] for part in key]

    with _locked(results.parent):
        entries = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
        write(results, sorted([stored for stored in entries if name(stored) != name(entry)] + [entry], key=name))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return mean and sample standard deviation."""
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def measured(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation of a figure, and its value for each seed."""
    return {**spread(values), "values": list(values)}


def figure(width: float, height: float, *titles: str) -> tuple[Any, list[Any]]:
    """Return a figure of so many inches, without a display and without global state, and a plot for each title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    plots = [drawn.add_subplot(1, len(titles), place) for place in range(1, len(titles) + 1)]
    for axes, title in zip(plots, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(color="0.9")
    return drawn, plots


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)
