"""`retrieval report`: a run on one page."""

from __future__ import annotations

from retrieval.console import Terminal, command_without_json
from retrieval.options import RunPath
from retrieval.runs.run import Run


@command_without_json
def report(out: Terminal, run: RunPath) -> None:
    """Write report.html, one self-contained page: curves, metrics, examples, latency.

    \b
    retrieval report runs/movielens-100k
    """
    from retrieval.report.page import write_report

    opened = Run.open(run)
    with out.working("report"):
        page = write_report(opened)
    out.show(str(page))
