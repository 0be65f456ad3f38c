"""`retrieval bench --sweep`: the server options of a run for a latency."""

from __future__ import annotations

from collections.abc import Callable

from ensemble.measure.benchmark import draw_requests
from ensemble.measure.sweep import Objective, Sweep, sweep
from ensemble.measure.sweep_view import draw
from retrieval.runs.run import Run
from retrieval.runs.serving import Load
from workflows.files import atomic_write, json_bytes


def sweep_run(run: Run, load: Load, p99_ms: float, minutes: float, progress: Callable[[str], None]) -> Sweep:
    """Search the options with the run's own requests; keep what was found in `sweep.json` and `sweep.png`."""
    run.require("release")
    stated = {"batches": load.batches, "concurrencies": load.concurrencies, "interval_ms": load.interval_ms}
    objective = Objective(p99_ms, minutes, **{name: value for name, value in stated.items() if value})  # type: ignore[arg-type]
    requests = draw_requests(run.directory, run.recipe.bench.requests, seed=run.recipe.seed)
    found = sweep(run.directory / "release", requests, objective, progress)
    atomic_write(run.directory / "sweep.json", json_bytes(found, 2))
    atomic_write(run.directory / "sweep.png", draw(found))
    return found
