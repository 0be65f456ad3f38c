"""`retrieval rank`: the stage that trains a ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Force, Runs
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from workflows.errors import RecipeError


@command
def rank(
    out: Terminal,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with a section [ranking].")],
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    force: Force = False,
) -> None:
    """Train the ranker of what the towers retrieve, and export it. The towers stay as they are.

    \b
    retrieval rank recipes/ranked.toml
    retrieval rank recipes/ranked.toml --verbose
    """
    read = load_recipe(recipe)
    if read.ranking is None:
        raise RecipeError(f'{recipe}: has no section [ranking], so there is no ranker; add one with kind = "inttower"')
    (done,) = advance(Run.create(read, runs), ["rank"], cache, out, force)
    out.result(done, *done["outputs"])
