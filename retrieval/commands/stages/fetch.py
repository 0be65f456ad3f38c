"""`retrieval fetch`: the stage that downloads the source."""

from __future__ import annotations

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Force, RecipePath, Runs
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance


@command
def fetch(out: Terminal, recipe: RecipePath, runs: Runs = RUNS, cache: Cache = CACHE, force: Force = False) -> None:
    """Download the source and store validated tables.

    \b
    retrieval fetch recipes/movielens-100k.toml
    retrieval fetch recipes/movielens-100k.toml --runs /data/runs --json
    """
    (done,) = advance(Run.create(load_recipe(recipe), runs), ["fetch"], cache, out, force)
    out.result(done, *done["outputs"])
