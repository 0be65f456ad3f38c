"""`retrieval tune`: a search over recipe fields by the validation part, within a time budget, resumable."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, RecipePath, Runs


@command
def tune(
    out: Terminal,
    recipe: RecipePath,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="When to stop.")],
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Stop at this many trials in all.")] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="SECTION.FIELD=LOW..HIGH, with :log if so, or =ONE,OTHER.")
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Show Optuna's dashboard of the search, until Ctrl-C.")
    ] = False,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
) -> None:
    """Search recipe fields by the validation part and write the best recipe to RUN/tune/best.toml.

    The same command again continues the search. Test rows are not looked at.

    \b
    retrieval tune recipes/movielens-100k.toml --minutes 30 --dashboard
    retrieval tune recipes/movielens-100k.toml --minutes 60 --trials 20 \\
        --field train.learning_rate=0.001..0.01:log --field model.dropout=0.2..0.6 \\
        --field train.schedule=constant,cosine --field "model.tower=[[128,64],[256,64]]"
    """
    from retrieval.tuning.dashboard import Dashboard
    from retrieval.tuning.tune import Budget, tune_table
    from retrieval.tuning.tune import tune as search

    shown = Dashboard(out.say) if dashboard else None
    result = search(recipe, runs, cache, field or [], Budget(minutes, trials), out, shown.open if shown else None)
    out.result(result, tune_table(result), f"best recipe: {result['best_recipe']}")
    if shown:
        out.results.file.flush()
        shown.wait()
