"""`retrieval promote`: a release becomes the current version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import RELEASES, By, Reason, Releases, ReleasesServer
from workflows.errors import RecipeError


@command
def promote(
    out: Terminal,
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, what `retrieval items` wrote, a release, or a version.")
    ],
    releases: Releases = RELEASES,
    address: ReleasesServer = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although it falls past a bound of the recipe; takes --reason.")
    ] = False,
    reason: Reason = None,
    by: By = None,
) -> None:
    """Make a release the current version of RELEASES, and with --address what a running server answers with.

    It is copied there as the next version. It must answer as it did when it was made, and in comparison with the
    current version keep to the bounds of its recipe's [release]. A server goes over without a failed request.

    \b
    retrieval promote runs/movielens-100k
    retrieval promote runs/movielens-100k --address 127.0.0.1:8001 --reason "weekly training"
    retrieval promote runs/movielens-100k --force --reason "the old catalogue is gone, see ticket 12"
    """
    from ensemble.deploy.promote import promote as make_current
    from ensemble.deploy.versions import Versions
    from retrieval.report.versions import promoted_lines
    from retrieval.runs.order import order_for
    from retrieval.runs.release_paths import candidate_of

    if force and not reason:
        raise RecipeError("--force: say why with --reason TEXT; it is kept in the history")
    versions = Versions(releases)
    with order_for(versions, address, reason, by) as order:
        done = make_current(versions, candidate_of(source), order, force, out.step)
    out.result(done, *promoted_lines(done))
