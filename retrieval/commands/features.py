"""`--workers` and `--scheduler`, and `retrieval features`, which takes them."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.commands.train import From
from retrieval.console import terminal
from retrieval.options import CACHE, RUNS, AsJson, Cache, Force, RecipePath, Runs, Verbose
from retrieval.runs.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from retrieval.runs.warm_start import from_run

Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Do the Dask work in so many processes of this machine.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Do it on your Dask cluster, such as tcp://10.0.0.1:8786.")
]


def features(
    recipe: RecipePath,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    force: Force = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    earlier: From = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Split the interactions and engineer the features. Whatever the workers, the result is the same.

    With --from the codes and scales are an earlier run's, and values that it did not know get codes after them.

    \b
    retrieval features recipes/movielens-100k.toml
    retrieval features recipes/synthetic.toml --workers 2
    retrieval features recipes/synthetic.toml --scheduler tcp://10.0.0.1:8786 --force
    retrieval features shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    with terminal(verbose) as out:
        run = Run.create(from_run(load_recipe(recipe), runs, earlier, STAGES), runs, STAGES).on(workers, scheduler)
        (done,) = advance(run, ["features"], cache, out, force)
        out.stage(done, json)
