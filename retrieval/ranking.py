"""`retrieval rank`: the stage that trains a ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import terminal
from retrieval.recipe import load_recipe
from retrieval.run import Run, advance
from retrieval.stages import STAGES
from workflows.diagnostics import RecipeError


def rank(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with a section [ranking].")],
    runs: Annotated[Path, typer.Option("--runs", help="Where runs are kept.")] = Path("runs"),
    cache: Annotated[Path, typer.Option("--cache", envvar="RETRIEVAL_CACHE", help="Where downloads are kept.")] = Path(
        "~/.cache/merlin-retrieval"
    ),
    force: Annotated[bool, typer.Option("--force", help="Run the stage although its inputs are the same.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what libraries log.")] = False,
) -> None:
    """Train the ranker of what the towers retrieve, and export it. The towers stay as they are.

    \b
    retrieval rank recipes/ranked.toml
    retrieval rank recipes/ranked.toml --verbose
    """
    with terminal(verbose) as out:
        read = load_recipe(recipe)
        if read.ranking is None:
            raise RecipeError(
                f'{recipe}: has no section [ranking], so there is no ranker; add one with kind = "inttower"'
            )
        (done,) = advance(Run.create(read, runs, STAGES), ["rank"], cache, out, force)
        out.stage(done, json)
