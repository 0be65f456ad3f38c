"""`retrieval rollback`: an earlier version is current again."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import RELEASES, By, Reason, Releases, ReleasesServer


@command
def rollback(
    out: Terminal,
    releases: Releases = RELEASES,
    to: Annotated[int | None, typer.Option("--to", help="A version that is kept (default: the one before).")] = None,
    address: ReleasesServer = None,
    reason: Reason = None,
    by: By = None,
) -> None:
    """Make an earlier version current again: the one whose place the current one took, or the one that --to names.

    \b
    retrieval rollback --address 127.0.0.1:8001 --reason "complaints about version 7"
    retrieval rollback releases --to 3
    """
    from ensemble.deploy.promote import roll_back
    from ensemble.deploy.versions import Versions
    from retrieval.commands.change.promote import order_for

    versions = Versions(releases)
    with order_for(versions, address, reason, by) as order:
        turn = roll_back(versions, to, order, out.step)
    out.result(turn, f"current: version {turn.version}, release {turn.release}")
