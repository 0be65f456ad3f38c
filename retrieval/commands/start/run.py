"""`retrieval run`: every stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Mlflow, Peers, RecipePath, Runs, Scheduler, Workers
from retrieval.recipes.recipe import Recipe, load_recipe, with_peers
from retrieval.report.peers import peers_table, verdict_lines
from retrieval.report.tables import metrics_table, more_tables
from retrieval.runs.mlflow_log import EXPERIMENT, Log
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from retrieval.runs.warm_start import from_run
from retrieval.runs.whole import Finished, run_all
from workflows.errors import RecipeError


@command
def run(
    out: Terminal,
    recipe: RecipePath,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    since: Annotated[
        str | None, typer.Option("--from", help="Run this stage and all after it again; or go on from this run.")
    ] = None,
    peers: Peers = None,
    mlflow: Mlflow = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Run every stage: fetch, features, train, peers, evaluate, release. Finished ones with the same inputs are kept.

    It ends with a verdict: whether the towers are ahead of the best simple model on the test rows.

    \b
    retrieval run recipes/movielens-100k.toml
    retrieval run recipes/movielens-100k.toml --from train
    retrieval run recipes/movielens-100k.toml --mlflow http://127.0.0.1:5000
    retrieval run recipes/synthetic.toml --workers 2 --peers knn,ease
    retrieval run shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    log = Log(mlflow) if mlflow else None
    loaded, since = stage_or_run(with_peers(load_recipe(recipe), peers), runs, since)
    opened = Run.create(loaded, runs).on(workers, scheduler)
    finished = run_all(opened, cache, out, since, log)
    out.result({"run": str(opened.directory), **as_json(finished)}, *shown(finished))


def as_json(finished: Finished) -> dict[str, Any]:
    """Return what came of a run, ready for JSON."""
    return {**finished._asdict(), "report": str(finished.report)}


def shown(finished: Finished) -> list[Table | str]:
    """Return the metrics beside those of the simple models, the report's path and the verdict."""
    metrics, logged = finished.metrics, finished.mlflow_run
    tables = metrics_table(metrics), *more_tables(metrics), peers_table(metrics["comparison"])
    lines = [f"report: {finished.report}", *verdict_lines(metrics)]
    return [*tables, *lines, *([f"mlflow: run {logged} of the experiment {EXPERIMENT}"] if logged else [])]


def stage_or_run(recipe: Recipe, runs: Path, since: str | None) -> tuple[Recipe, str | None]:
    """Return the recipe and the stage to start with, as `retrieval run --from` names a run or a stage; raise
    RecipeError where it is neither."""
    names = [stage.name for stage in STAGES]
    if since is None or since in names:
        return from_run(recipe, runs, None), since
    if not (Path(since) / "recipe.json").is_file():
        raise RecipeError(f"--from {since}: no such run, and no stage; the stages are {', '.join(names)}")
    return from_run(recipe, runs, Path(since)), None
