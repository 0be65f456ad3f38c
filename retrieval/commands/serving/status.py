"""`retrieval status`: what a server serves and what it has done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import to_builtins
from rich.table import Column, Table
from rich.text import Text

from retrieval.console import UNHEALTHY, Terminal, command
from retrieval.options import ADDRESS, Address

if TYPE_CHECKING:
    from ensemble.measure.status import Model, Status

_STATES = {"healthy": "green", "busy": "yellow", "unasked": "yellow"}


@command
def status(
    out: Terminal,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="A run or releases that are served here, in place of addresses."),
    ] = None,
    address: Address = ADDRESS,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="The server's metrics address, where it is not found by itself.")
    ] = None,
) -> None:
    """Show what a running server serves, whether it answers rightly, what it has done, and what was repaired.

    Figures are those of its metrics since it was started. Exit code 1 where a model does not answer rightly.

    \b
    retrieval status runs/movielens-100k
    retrieval status --address 127.0.0.1:8001 --json
    """
    from ensemble.measure.status import Place, metrics_address, places
    from ensemble.measure.status import status as ask

    servers = places(_repository(source)) if source else [Place(address, metrics or metrics_address(address))]
    statuses = [ask(place) for place in servers]
    result = [{**to_builtins(server), "healthy": server.healthy} for server in statuses]
    out.result(result, *(table for server in statuses for table in tables(server)))
    if not all(server.healthy for server in statuses):
        raise typer.Exit(UNHEALTHY)


def _repository(source: Path) -> Path:
    """Return where the server's state lies; unlike for serving, nothing is made."""
    inside = source / "triton"
    return inside if inside.is_dir() else source


def tables(server: Status) -> list[Table]:
    """Return what to print of a server."""
    table = Table(title=f"server at {server.grpc}", title_justify="left", show_header=False)
    listening = [f"grpc {server.grpc}", *([f"http {server.http}"] if server.http else []), f"metrics {server.metrics}"]
    table.add_row("listens", ", ".join(listening))
    if server.process is not None:
        table.add_row("process", f"{server.process}, supervised since {server.started}")
    if server.items is not None:
        table.add_row("catalogue", f"{server.items:,} items" + f", {server.changes} changes" * bool(server.changes))
    for model in server.models:
        table.add_section()
        table.add_row(model.name, Text(model.state, style=_STATES.get(model.state, "bold red")))
        for name, value in _lines(model):
            table.add_row(f"  {name}", value)
    if server.problem:
        table.add_row("figures", Text(server.problem, style="yellow"))
    return [table, *([_repairs(server)] if server.repairs else [])]


def _lines(model: Model) -> list[tuple[str, str]]:
    lines = [("reason", model.reason)] if model.reason else [("release", f"{model.release}, version {model.version}")]
    figures = model.figures
    if figures is None:
        return lines
    lines += [
        ("rows", f"{figures.rows:,} in {figures.requests:,} requests; {_number(figures.mean_batch_rows)} at once"),
        ("unknown users", f"{figures.unknown_users:.1%} of the rows"),
        ("too few items", f"{figures.short_rows:.1%} of the rows"),
        ("refused", f"{int(sum(figures.refused_requests.values())):,} requests{_reasons(figures.refused_requests)}"),
        ("lost", f"{figures.lost_requests:,}, in a process that died or too long in the queue"),
        ("waiting", f"{figures.waiting:,} requests"),
        ("request", f"{_number(figures.mean_ms)} ms in the mean, {_number(figures.mean_queue_ms)} of it in the queue"),
    ]
    if figures.search_ms:
        lines.append(("search", ", ".join(f"{name} {value:g} ms" for name, value in figures.search_ms.items())))
    return lines


def _reasons(requests: dict[str, int]) -> str:
    listed = ", ".join(f"{name} {int(count):,}" for name, count in sorted(requests.items()))
    return f": {listed}" if listed else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _repairs(server: Status) -> Table:
    counts = ", ".join(f"{name} {count}" for name, count in (server.repairs or {}).items())
    columns = (Column(heading, overflow="fold") for heading in ("when", "what", ""))
    table = Table(*columns, title=f"what the supervisor did: {counts}", title_justify="left")
    for event in server.events:
        facts = {name: value for name, value in event.items() if name not in ("time", "event")}
        table.add_row(event["time"], event["event"], ", ".join(f"{name} {value}" for name, value in facts.items()))
    return table
