"""`retrieval train`: the stage that trains the towers."""

from __future__ import annotations

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Force, From, RecipePath, Runs
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.warm_start import from_run


@command
def train(
    out: Terminal,
    recipe: RecipePath,
    earlier: From = None,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    force: Force = False,
) -> None:
    """Train the two towers and export them. With --from: go on from an earlier run's, as [train.warm_start] says.

    The features must go on from the same run, for a vocabulary to grow: they are made again where they do not.

    \b
    retrieval train recipes/movielens-100k.toml
    retrieval train shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    run = Run.create(from_run(load_recipe(recipe), runs, earlier), runs)
    if earlier is not None and not run.is_finished(run.stages["features"]):
        advance(run, ["features"], cache, out)
    (done,) = advance(run, ["train"], cache, out, force)
    out.result(done, *done["outputs"])
