"""`retrieval compare`: runs side by side, as a table, as JSON and as a page with curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command


@command
def compare(
    out: Terminal,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Directories of runs.")],
    out_path: Annotated[
        Path | None, typer.Option("--out", help="Also write a page with curves, NAME.html, and NAME.json.")
    ] = None,
) -> None:
    """Put runs side by side: their metrics, and with --out recall over k and over the epochs.

    \b
    retrieval compare runs/movielens-100k runs/movielens-100k-history
    retrieval compare runs/* --out compare.html --json
    """
    from retrieval.report.compare import compare as read_runs
    from retrieval.report.compare import compare_table, write_page

    compared = read_runs(runs)
    if out_path:
        write_page(compared, out_path)
        out.say(f"page: {out_path}")
    out.result(compared, compare_table(compared))
