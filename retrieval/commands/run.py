"""`retrieval run`: every stage of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, AsJson, Cache, Peers, RecipePath, Runs, Scheduler, Workers
from retrieval.report.peers import peers_table, verdict_lines
from retrieval.report.tables import metrics_table, more_tables, read_json
from retrieval.runs.recipe import Recipe, load_recipe, with_peers
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from retrieval.runs.warm_start import from_run
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
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: AsJson = False,
) -> None:
    """Run every stage: fetch, features, train, peers, evaluate, release. Finished ones with the same inputs are kept.

    It ends with a verdict: whether the towers are ahead of the best simple model on the test rows.

    \b
    retrieval run recipes/movielens-100k.toml
    retrieval run recipes/movielens-100k.toml --from train
    retrieval run recipes/synthetic.toml --workers 2 --peers knn,ease
    retrieval run shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    loaded, since = stage_or_run(with_peers(load_recipe(recipe), peers), runs, since)
    opened = Run.create(loaded, runs, STAGES).on(workers, scheduler)
    done = _run_from(opened, since, cache, out)
    metrics = read_json(opened.metrics)
    from retrieval.report.page import write_report  # late: a wrong recipe is to be refused at once

    with out.working("report"):
        page = write_report(opened)
    if json:
        out.json({"run": str(opened.directory), "stages": done, "metrics": metrics, "report": str(page)})
    else:
        for table in (metrics_table(metrics), *more_tables(metrics)):
            out.table(table)
        out.table(peers_table(metrics["comparison"]))
        out.results.print(f"report: {page}", soft_wrap=True)
        for line in verdict_lines(metrics):
            out.results.print(line, soft_wrap=True)


def _run_from(run: Run, since: str | None, cache: Path, out: Terminal) -> list[dict[str, Any]]:
    """Run every stage in order; from `since` on, whether or not it is finished."""
    names = [stage.name for stage in STAGES]
    again = names.index(since) if since else len(names)
    return advance(run, names[:again], cache, out) + advance(run, names[again:], cache, out, force=True)


def stage_or_run(recipe: Recipe, runs: Path, given: str | None) -> tuple[Recipe, str | None]:
    """Return the recipe and the stage to start with, as `retrieval run --from` names a run or a stage.

    Raises
    ------
    RecipeError
        It is neither.
    """
    names = [stage.name for stage in STAGES]
    if given is None or given in names:
        return from_run(recipe, runs, None, STAGES), given
    if not (Path(given) / "recipe.json").is_file():
        raise RecipeError(f"--from {given}: no such run, and no stage; the stages are {', '.join(names)}")
    return from_run(recipe, runs, Path(given), STAGES), None
