"""`--from RUN`, and `retrieval train`, which takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import terminal
from retrieval.options import CACHE, RUNS, AsJson, Cache, Force, RecipePath, Runs, Verbose
from retrieval.runs.recipe import Recipe, load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from retrieval.runs.warm_start import from_run
from workflows.errors import RecipeError

From = Annotated[
    Path | None, typer.Option("--from", metavar="RUN", help="Go on from an earlier run's vocabularies and towers.")
]


def stage_or_run(recipe: Recipe, runs: Path, given: str | None) -> tuple[Recipe, str | None]:
    """Return the recipe and the stage to start with, of which `retrieval run --from` names one: a run or a stage.

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


def train(
    recipe: RecipePath,
    earlier: From = None,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    force: Force = False,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train the two towers and export them. With --from: go on from an earlier run's, as [train.continued] says.

    The features must go on from the same run, for a vocabulary to grow: they are made anew where they do not.

    \b
    retrieval train recipes/movielens-100k.toml
    retrieval train shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    with terminal(verbose) as out:
        run = Run.create(from_run(load_recipe(recipe), runs, earlier, STAGES), runs, STAGES)
        if earlier is not None and not run.is_finished(run.stages["features"]):
            advance(run, ["features"], cache, out)
        (done,) = advance(run, ["train"], cache, out, force)
        out.stage(done, json)
