"""`retrieval features`: the stage that splits the interactions and engineers the features."""

from __future__ import annotations

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Force, From, RecipePath, Runs, Scheduler, Workers
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.warm_start import from_run


@command
def features(
    out: Terminal,
    recipe: RecipePath,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    force: Force = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    earlier: From = None,
) -> None:
    """Split the interactions and engineer the features. Whatever the workers, the result is the same.

    With --from the codes and scales are an earlier run's, and values that it did not know get codes after them.

    \b
    retrieval features recipes/movielens-100k.toml
    retrieval features recipes/synthetic.toml --workers 2
    retrieval features recipes/synthetic.toml --scheduler tcp://10.0.0.1:8786 --force
    retrieval features shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    run = Run.create(from_run(load_recipe(recipe), runs, earlier), runs).on(workers, scheduler)
    (done,) = advance(run, ["features"], cache, out, force)
    out.result(done, *done["outputs"])
