"""`retrieval explore`: a run in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command_without_json
from workflows.errors import RetrievalError, StageError


@command_without_json
def explore(
    out: Terminal,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN2]", help="A run, or two to compare; or a release.")],
    address: Annotated[
        str | None, typer.Option("--address", help="gRPC address of a running server of the run, which then answers.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="retrieval_chained asks the chained layout.")] = "retrieval",
    delta: Annotated[
        Path | None, typer.Option("--delta", help="The server's directory of `retrieval items`, to show index drift.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where the page listens; others see it only if you say so.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> None:
    """Look at a run in the browser: what it recommends, to whom, and why. Ends with Ctrl-C.

    \b
    retrieval explore runs/movielens-100k
    retrieval explore runs/movielens-100k runs/other --no-browser --port 8090
    retrieval explore runs/movielens-100k --address 127.0.0.1:8001
    """
    _check(runs)
    from retrieval.explore.app import Server
    from retrieval.explore.serve import listen, open_browser

    if delta and not address:
        raise RetrievalError("--delta goes with --address: it is the catalogue of a running server")
    server = Server(address, model, delta) if address else None
    listening = listen(runs, host, port, server)
    out.show(listening.address)
    out.results.file.flush()
    if browser:
        open_browser(listening.address, out.say)
    listening.run()


def _check(runs: list[Path]) -> None:
    from importlib.util import find_spec

    if find_spec("flask") is None or find_spec("waitress") is None:
        raise RetrievalError("explore: needs Flask and waitress; pip install 'merlin-retrieval[explore]'")
    if len(runs) > 2:
        raise StageError(f"{len(runs)} runs; expected one, or two to compare")
    for run in runs:
        if not run.is_dir():
            raise StageError(f"{run}: no such directory; expected a run that `retrieval run` made, or a release")
