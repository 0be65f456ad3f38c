"""`retrieval demo`: what the project does, from nothing to answers, in one command and one process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.console import Terminal, command_without_json
from retrieval.options import CACHE, RUNS, Cache, Runs
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES

USERS = 3
HEADLINES = ("recall@10", "recall@100", "ndcg@10", "hit_rate@10", "coverage@10")


@command_without_json
def demo(
    out: Terminal,
    recipe: Annotated[Path, typer.Argument(metavar="[RECIPE]")] = Path("recipes/movielens-100k.toml"),
    runs: Runs = RUNS,
    cache: Cache = CACHE,
) -> None:
    """Run a recipe, serve it, show a few users' recommendations and a short benchmark, stop the server.

    \b
    retrieval demo
    retrieval demo recipes/movielens-100k.toml
    """
    from retrieval.report.examples import any_user

    start = time.monotonic()
    opened = Run.create(load_recipe(recipe), runs)
    done = advance(opened, [stage.name for stage in STAGES], cache, out)

    page, user = show(out, opened), any_user(opened.directory)
    reused = sum(stage["kept"] for stage in done)
    seconds = time.monotonic() - start
    out.show(
        f"\ndone in {seconds:.0f} s; {reused} of {len(done)} stages were kept",
        f"report:     {page}",
        f"serve it:   retrieval serve {opened.directory}",
        f"ask it:     retrieval query --user {user} --run {opened.directory}",
    )


def show(out: Terminal, run: Run) -> Path:
    """Serve a finished run, print a few users' recommendations and a short benchmark; return the report's path."""
    from ensemble.client import RetrievalClient
    from ensemble.measure.points import table
    from retrieval.report.examples import examples, pick_users
    from retrieval.report.page import write_report
    from retrieval.report.peers import verdict_lines
    from retrieval.report.tables import example_table, metrics_table, read_json
    from retrieval.runs.serving import Load, answering_model, measure, temporary_server

    short = Load(interval_ms=1000)
    out.section("How good it is")
    metrics = read_json(run.metrics)
    out.show(metrics_table(metrics, HEADLINES), *verdict_lines(metrics))
    out.section("What it recommends")
    with temporary_server(run, out.say) as server:
        users = pick_users(run.directory, USERS, run.recipe.seed)
        with RetrievalClient(server.addresses.grpc, answering_model(run)) as client:

            def ask(users: Sequence[Any], top_k: int, times: Sequence[int]) -> list[list[tuple[Any, float]]]:
                answers = client.recommend(users, top_k=top_k, timestamps=times)
                return [list(zip(answer.item_ids, answer.scores, strict=True)) for answer in answers]

            out.show(*map(example_table, examples(run.directory, ask, users)))
        out.section("How fast it is")
        with out.working("benchmark"):
            points = measure(run, short, server.addresses.grpc, server.process_id, out.step)
        out.show(table(points))
    with out.working("report"):
        return write_report(run)
