"""`retrieval deploy`: another release in a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import terminal
from retrieval.serving import release_of, repository_of
from workflows.diagnostics import RecipeError


def deploy(
    source: Annotated[
        Path | None, typer.Argument(metavar="[RELEASE]", help="What goes live: a run, or a release's directory.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option("--into", help="What the server serves: a run, or a Triton model repository.")
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the version before instead.")] = False,
    address: Annotated[str, typer.Option("--address", help="The server's gRPC address.")] = "127.0.0.1:8001",
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what libraries log.")] = False,
) -> None:
    """Bring a release live in a running server, without a failed request.

    Every answer is wholly from one release. One whose self-test fails is refused, and what was live goes on.

    \b
    retrieval deploy runs/movielens-100k-best --into runs/movielens-100k
    retrieval deploy --rollback --into runs/movielens-100k --address 127.0.0.1:8001
    """
    with terminal(verbose) as out:
        from ensemble.deploy import deploy as bring_live
        from ensemble.deploy import roll_back
        from ensemble.model_control import ModelControl

        if into is None or (source is None) == (not rollback):
            raise RecipeError("expected RELEASE --into RUN, or --rollback --into RUN; see `retrieval deploy --help`")
        repository = repository_of(into).absolute()
        with ModelControl(address, repository) as control:
            if source is None:
                done = roll_back(repository, control, out.step)
            else:
                done = bring_live(release_of(source), repository, control, out.step)
        if json:
            out.json(asdict(done))
        else:
            out.results.print(f"live: release {done.release}, version {done.version}", soft_wrap=True)
