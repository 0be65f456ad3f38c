"""`retrieval health`: whether a server answers rightly."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import UNHEALTHY, Terminal, command
from retrieval.options import ADDRESS, Address


@command
def health(
    out: Terminal,
    address: Address = ADDRESS,
    model: Annotated[str | None, typer.Option("--model", help="Default: whichever is there.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.01, help="Seconds for each of two questions.")] = 2.0,
    live: Annotated[
        bool, typer.Option("--live", help="A full queue, or being late while others are answered, is no failure.")
    ] = False,
) -> None:
    """Ask a server one question whose answer its release knows; exit with 0 if it is right, with 1 if not.

    Triton's own health says nothing of the processes of its models.

    \b
    retrieval health
    retrieval health --url 127.0.0.1:8001 --timeout 1 --json
    """
    from ensemble.supervision.health import canary

    result = canary(address, model, timeout)
    summary = f"release {result.release}, version {result.version}" if result.healthy else result.reason
    out.result(
        {**result._asdict(), "healthy": result.healthy, "seconds": round(result.seconds, 4)},
        f"{result.state}: {address}, model {result.model}: {summary} ({1e3 * result.seconds:.1f} ms)",
    )
    if not (result.healthy or (live and result.alive)):
        raise typer.Exit(UNHEALTHY)
