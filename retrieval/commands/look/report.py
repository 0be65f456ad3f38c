"""`retrieval report`: a run on one page."""

from __future__ import annotations

from retrieval.console import Terminal, command
from retrieval.options import RunPath
from retrieval.runs.run import Run


@command
def report(out: Terminal, run: RunPath) -> None:
    """Write report.html, one self-contained page: curves, metrics, examples, latency.

    \b
    retrieval report runs/movielens-100k
    """
    from retrieval.report.page import write_report

    opened = Run.open(run)
    with out.working("report"):
        page = write_report(opened)
    out.results.print(str(page), soft_wrap=True)
