"""`retrieval diff`: two releases side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command


@command
def diff(
    out: Terminal,
    a: Annotated[Path, typer.Argument(metavar="A", help="RELEASES (the current version), RELEASES/3, a run, ...")],
    b: Annotated[Path, typer.Argument(metavar="B", help="... or a release.")],
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="How many answers per user are compared (default: B's recipe).")
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", min=1, help="How many users are asked (default: B's recipe).")
    ] = None,
) -> None:
    """Compare two releases: their metrics, their catalogues, and what they answer to the same users.

    Each one's metrics are those of its own run, on its own test rows.

    \b
    retrieval diff releases runs/movielens-100k
    retrieval diff releases/2 releases/3 --k 50 --users 2000 --json
    """
    from ensemble.deploy.compare import compare
    from ensemble.deploy.promote import bounds_of
    from retrieval.report.versions import difference_tables
    from retrieval.runs.places import candidate_of

    old, new = candidate_of(a), candidate_of(b)
    bounds = bounds_of(new)
    differences = compare(old, new, k or bounds.k, users or bounds.users)
    out.result(differences, *difference_tables(differences))
