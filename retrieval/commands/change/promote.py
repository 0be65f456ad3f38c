"""`retrieval promote`: a release becomes the current version."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import RELEASES, By, Reason, Releases, ReleasesServer
from workflows.errors import RecipeError

if TYPE_CHECKING:
    from ensemble.deploy.promote import Order
    from ensemble.deploy.versions import Versions


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
    from retrieval.runs.places import candidate_of

    if force and not reason:
        raise RecipeError("--force: say why with --reason TEXT; it is kept in the history")
    versions = Versions(releases)
    with order_for(versions, address, reason, by) as order:
        done = make_current(versions, candidate_of(source), order, force, out.step)
    out.result(done, *promoted_lines(done))


@contextmanager
def order_for(versions: Versions, address: str | None, reason: str | None, by: str | None) -> Iterator[Order]:
    """Yield who wants something and why, connected to the server that is to do it, where there is one."""
    from ensemble.deploy.promote import Order
    from ensemble.triton.model_control import ModelControl

    who = by or _user()
    if address is None:
        yield Order(who, reason)
        return
    with ModelControl(address, versions.repository.absolute()) as control:
        yield Order(who, reason, control)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, say: a user id without a name
        return f"user {os.getuid()}"
