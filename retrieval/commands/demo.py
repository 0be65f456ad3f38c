"""`retrieval demo`: what the project does, from nothing to answers, in one command and one process."""

from __future__ import annotations

from pathlib import Path

from ensemble.measure.points import table
from retrieval.console import Terminal
from retrieval.report.examples import examples, pick_users
from retrieval.report.page import write_report
from retrieval.report.tables import example_table, metrics_table, read_json
from retrieval.runs.answers import from_server
from retrieval.runs.run import Run
from retrieval.runs.serving import Load, answering_model, measure, target_of, temporary_server

USERS = 3
HEADLINES = ("recall@10", "recall@100", "ndcg@10", "hit_rate@10", "coverage@10")
SHORT = Load(interval_ms=1000)


def show(out: Terminal, run: Run) -> Path:
    """Serve a finished run, print a few users' recommendations and a short benchmark; return the report's path."""
    out.section("How good it is")
    out.table(metrics_table(read_json(run.directory / "metrics.json"), HEADLINES))
    out.section("What it recommends")
    with temporary_server(run, out.say) as server:
        users = pick_users(run.directory, USERS, run.recipe.seed)
        asked = from_server(server.addresses.grpc, answering_model(run))
        for example in examples(run.directory, asked, users):
            out.table(example_table(example))
        out.section("How fast it is")
        with out.working("benchmark"):
            points = measure(run, target_of(run, SHORT, server.addresses.grpc, server.process_id), SHORT, out.step)
        out.table(table(points))
    with out.working("report"):
        return write_report(run)
