"""`retrieval evaluate`: the stage that measures the towers on the test rows, and what other models reach there."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import CACHE, AsJson, Cache, Force, RunPath
from retrieval.report.tables import groups_table, metrics_table, more_tables, read_json
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES


@command
def evaluate(
    out: Terminal,
    run: RunPath,
    cache: Cache = CACHE,
    peers: Annotated[
        bool, typer.Option("--peers", help="Fit popularity, item KNN, EASE and ALS, and compare.")
    ] = False,
    force: Force = False,
    json: AsJson = False,
) -> None:
    """Measure recall, hit rate, ndcg, mrr and coverage on the test rows, beside popularity.

    With --peers: beside other kinds of model fitted to the same rows. The figures are kept in peers.json.

    \b
    retrieval evaluate runs/movielens-100k
    retrieval evaluate runs/movielens-100k --json
    retrieval evaluate runs/movielens-100k --peers
    """
    if peers:
        from retrieval.report.peers import PEERS, peers_table

        opened = Run.open(run, (*STAGES, PEERS))
        advance(opened, ["peers"], cache, out, force)
        found = read_json(opened.directory / "peers.json")
        out.json(found) if json else out.table(peers_table(found))
        return
    opened = Run.open(run, STAGES)
    advance(opened, ["evaluate"], cache, out, force)
    metrics = read_json(opened.metrics)
    if json:
        out.json(metrics)
    else:
        for table in (metrics_table(metrics), groups_table(metrics), *more_tables(metrics)):
            out.table(table)
