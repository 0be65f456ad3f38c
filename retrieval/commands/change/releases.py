"""`retrieval releases`: the versions of a directory of releases."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import RELEASES, Releases

app = typer.Typer(
    help="The versions of a directory of releases: what there is, how it became current, what can go.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name="list")
@command
def list_(out: Terminal, releases: Releases = RELEASES) -> None:
    """List the versions that are kept, newest first.

    \b
    retrieval releases list
    retrieval releases list releases --json
    """
    from ensemble.deploy.versions import Versions
    from retrieval.report.versions import listed, versions_table

    versions = listed(Versions(releases))
    out.result(versions, versions_table(versions))


@app.command()
@command
def history(out: Terminal, releases: Releases = RELEASES) -> None:
    """Show which version became current when, by whom and why, oldest first.

    \b
    retrieval releases history
    retrieval releases history releases --json
    """
    from ensemble.deploy.versions import Versions
    from retrieval.report.versions import history_table

    turns = Versions(releases).history()
    out.result(turns, history_table(turns))


@app.command()
@command
def prune(
    out: Terminal,
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest versions stay.")],
    releases: Releases = RELEASES,
) -> None:
    """Remove old versions. The current one, and the one that a roll-back would go to, stay in any case.

    \b
    retrieval releases prune --keep 3
    retrieval releases prune releases --keep 0 --json
    """
    from ensemble.deploy.versions import Versions

    versions = Versions(releases)
    versions.current_number()  # before the lock, which makes the directory
    with versions.lock():
        removed = versions.prune(keep)
    facts = {"removed": removed, "kept": versions.numbers()}
    out.result(facts, f"removed: {', '.join(map(str, removed)) or 'none'}")
