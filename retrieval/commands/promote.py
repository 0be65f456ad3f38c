"""`retrieval promote`, `rollback`, `diff` and `releases`: which release is current, and how it came to be so."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins

from retrieval.console import terminal
from retrieval.options import AsJson, Verbose
from workflows.errors import RecipeError

if TYPE_CHECKING:
    from ensemble.deploy.promote import Order
    from ensemble.deploy.versions import Versions

RELEASES = Path("releases")

Source = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run, what `retrieval items` wrote, a release, or a version.")
]
Releases = Annotated[Path, typer.Argument(metavar="[RELEASES]", help="Where the versions are kept.")]
Address = Annotated[
    str | None, typer.Option("--address", help="gRPC address of the server of RELEASES: it goes over at once.")
]
Who = Annotated[
    str | None, typer.Option("--by", envvar="RETRIEVAL_BY", help="Who does it, for the history (default: the user).")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the history.")]

app = typer.Typer(
    help="The versions of a directory of releases: what there is, how it became current, what can go.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def promote(
    source: Source,
    releases: Releases = RELEASES,
    address: Address = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although it falls past a bound of the recipe; takes --reason.")
    ] = False,
    reason: Reason = None,
    by: Who = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a release the current version of RELEASES, and with --address what a running server answers with.

    It is copied there as the next version. It must answer as it did when it was made, and in comparison with the
    current version keep to the bounds of its recipe's [release]. A server goes over without a failed request.

    \b
    retrieval promote runs/movielens-100k
    retrieval promote runs/movielens-100k --address 127.0.0.1:8001 --reason "weekly training"
    retrieval promote runs/movielens-100k --force --reason "the old catalogue is gone, see ticket 12"
    """
    with terminal(verbose) as out:
        from ensemble.deploy.promote import promote as make_current
        from ensemble.deploy.versions import Versions
        from retrieval.report.versions import promoted_lines
        from retrieval.runs.release_paths import candidate_of

        if force and not reason:
            raise RecipeError("--force: say why with --reason TEXT; it is kept in the history")
        versions = Versions(releases)
        with _order(versions, address, reason, by) as order:
            done = make_current(versions, candidate_of(source), order, force, out.step)
        if json:
            out.json(to_builtins(done))
            return
        for line in promoted_lines(done):
            out.results.print(line, soft_wrap=True)


def rollback(
    releases: Releases = RELEASES,
    to: Annotated[int | None, typer.Option("--to", help="A version that is kept (default: the one before).")] = None,
    address: Address = None,
    reason: Reason = None,
    by: Who = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make an earlier version current again: the one whose place the current one took, or the one that --to names.

    \b
    retrieval rollback --address 127.0.0.1:8001 --reason "complaints about version 7"
    retrieval rollback releases --to 3
    """
    with terminal(verbose) as out:
        from ensemble.deploy.promote import roll_back
        from ensemble.deploy.versions import Versions

        versions = Versions(releases)
        with _order(versions, address, reason, by) as order:
            turn = roll_back(versions, to, order, out.step)
        if json:
            out.json(to_builtins(turn))
        else:
            out.results.print(f"current: version {turn.version}, release {turn.release}", soft_wrap=True)


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="RELEASES (the current version), RELEASES/3, a run, ...")],
    b: Annotated[Path, typer.Argument(metavar="B", help="... or a release.")],
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="How many answers per user are compared (default: B's recipe).")
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", min=1, help="How many users are asked (default: B's recipe).")
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare two releases: their metrics, their catalogues, and what they answer to the same users.

    Each one's metrics are those of its own run, on its own test rows.

    \b
    retrieval diff releases runs/movielens-100k
    retrieval diff releases/2 releases/3 --k 50 --users 2000 --json
    """
    with terminal(verbose) as out:
        from ensemble.deploy.compare import compare
        from ensemble.deploy.promote import bounds_of
        from retrieval.report.versions import difference_tables
        from retrieval.runs.release_paths import candidate_of

        old, new = candidate_of(a), candidate_of(b)
        bounds = bounds_of(new)
        found = compare(old, new, k or bounds.k, users or bounds.users)
        if json:
            out.json(to_builtins(found))
            return
        for table in difference_tables(found):
            out.table(table)


@app.command(name="list")
def list_(releases: Releases = RELEASES, json: AsJson = False, verbose: Verbose = False) -> None:
    """List the versions that are kept, newest first.

    \b
    retrieval releases list
    retrieval releases list releases --json
    """
    with terminal(verbose) as out:
        from ensemble.deploy.versions import Versions
        from retrieval.report.versions import listed, versions_table

        found = listed(Versions(releases))
        out.json(found) if json else out.table(versions_table(found))


@app.command()
def history(releases: Releases = RELEASES, json: AsJson = False, verbose: Verbose = False) -> None:
    """Show which version became current when, by whom and why, oldest first.

    \b
    retrieval releases history
    retrieval releases history releases --json
    """
    with terminal(verbose) as out:
        from ensemble.deploy.versions import Versions
        from retrieval.report.versions import history_table

        turns = Versions(releases).history()
        out.json(to_builtins(turns)) if json else out.table(history_table(turns))


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest versions stay.")],
    releases: Releases = RELEASES,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Remove old versions. The current one, and the one that a roll-back would go to, stay in any case.

    \b
    retrieval releases prune --keep 3
    retrieval releases prune releases --keep 0 --json
    """
    with terminal(verbose) as out:
        from ensemble.deploy.versions import Versions

        versions = Versions(releases)
        versions.current_number()  # before the lock, which makes the directory
        with versions.lock():
            gone = versions.prune(keep)
        if json:
            out.json({"removed": gone, "kept": versions.numbers()})
        else:
            out.results.print(f"removed: {', '.join(map(str, gone)) or 'none'}")


@contextmanager
def _order(versions: Versions, address: str | None, reason: str | None, by: str | None) -> Iterator[Order]:
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
