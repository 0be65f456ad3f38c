"""`retrieval demo`: what the project does, from nothing to answers, in one command."""

from __future__ import annotations

from pathlib import Path

from ensemble.points import table
from retrieval.answers import from_server
from retrieval.console import Terminal
from retrieval.examples import examples, pick_users
from retrieval.report import write_report
from retrieval.run import Run
from retrieval.serving import Load, measure, target_of, temporary_server
from retrieval.tables import example_table, metrics_table, read_json

USERS = 3
SHORT = Load(interval_ms=1000)


def show(out: Terminal, run: Run) -> Path:
    """Serve a finished run, print a few users' recommendations and a short benchmark; return the report's path."""
    out.table(metrics_table(read_json(run.directory / "metrics.json")))
    with temporary_server(run, out.say) as server:
        users = pick_users(run.directory, USERS, run.recipe.seed)
        for example in examples(run.directory, from_server(server.addresses.grpc), users):
            out.table(example_table(example))
        with out.working("benchmark"):
            points = measure(run, target_of(server, run, SHORT), SHORT, out.step)
        out.table(table(points))
    with out.working("report"):
        return write_report(run)
