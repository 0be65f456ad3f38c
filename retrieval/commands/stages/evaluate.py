"""`retrieval evaluate`: the stages that measure the towers on the test rows, and what other models reach there."""

from __future__ import annotations

from retrieval.console import Terminal, command
from retrieval.options import CACHE, Cache, Force, Peers, RunPath
from retrieval.recipes.recipe import with_peers
from retrieval.report.peers import peers_table, verdict_lines
from retrieval.report.tables import groups_table, metrics_table, more_tables, read_json
from retrieval.runs.run import Run, advance


@command
def evaluate(out: Terminal, run: RunPath, cache: Cache = CACHE, peers: Peers = None, force: Force = False) -> None:
    """Measure recall, hit rate, ndcg and more on the test rows, per row and as papers do, beside simple models.

    \b
    retrieval evaluate runs/movielens-100k
    retrieval evaluate runs/movielens-100k --json
    retrieval evaluate runs/movielens-100k --peers knn,ease
    """
    opened = Run.open(run)
    opened = opened.with_recipe(with_peers(opened.recipe, peers))
    advance(opened, ["peers", "evaluate"], cache, out, force)
    metrics = read_json(opened.metrics)
    tables = metrics_table(metrics), groups_table(metrics), *more_tables(metrics), peers_table(metrics["comparison"])
    out.result(metrics, *tables, *verdict_lines(metrics))
