"""Benchmark points: stored as JSON, shown as a table, drawn as the latency/throughput curve."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.table import Table

from workflows.errors import StageError
from workflows.files import atomic_write, json_bytes


class Point(Struct, frozen=True, kw_only=True):
    """What was measured at one batch size and one number of requests in flight."""

    layout: str
    """What was asked: `fused`, or another layout of the same model."""
    batch: int
    """Rows per request."""
    concurrency: int
    """Requests in flight."""
    rows_per_s: float
    p50_ms: float
    """Latency of a request, from the load generator's view; likewise the other percentiles."""
    p90_ms: float
    p95_ms: float
    p99_ms: float
    server_cpu_ms_per_row: float | None
    """CPU time of the server's processes over the rows they answered; None where the server is not on this machine."""
    spread: float | None
    """(highest - lowest) / mean rows/s of the measurement's windows; well above 0.1, the machine was busy elsewhere."""


def save(points: Sequence[Point], json: Path, picture: Path | None = None) -> None:
    """Write the points as a JSON list, and their curve as a PNG."""
    atomic_write(json, json_bytes(list(points), 2))
    if picture is not None:
        atomic_write(picture, draw(points))


def load(json: Path) -> list[Point]:
    """Read what `save` wrote; raise StageError if the file is missing or holds something else."""
    try:
        return msgspec.json.decode(json.read_bytes(), type=list[Point])
    except FileNotFoundError:
        raise StageError(f"{json}: no benchmark yet; run `retrieval bench`") from None
    except msgspec.DecodeError as error:
        raise StageError(f"{json}: {error}; run `retrieval bench` again") from None


def table(points: Sequence[Point]) -> Table:
    """Return the points as a table for the terminal."""
    shown = Table(title="Served over gRPC, measured by perf_analyzer", title_justify="left")
    shown.add_column("layout")
    names = ["rows per\nrequest", "in\nflight", "rows/s", "p50, ms", "p90, ms", "p95, ms", "p99, ms"]
    for name in [*names, "CPU per\nrow, ms", "spread"]:
        shown.add_column(name, justify="right")
    for point in points:
        cpu = "" if point.server_cpu_ms_per_row is None else f"{point.server_cpu_ms_per_row:.3f}"
        latencies = [f"{latency:.2f}" for latency in (point.p50_ms, point.p90_ms, point.p95_ms, point.p99_ms)]
        counts = [str(point.batch), str(point.concurrency), f"{point.rows_per_s:,.0f}"]
        shown.add_row(point.layout, *counts, *latencies, cpu, "" if point.spread is None else f"{point.spread:.0%}")
    return shown


def draw(points: Sequence[Point]) -> bytes:
    """Return the latency/throughput curve as a PNG: a line per layout and batch size; numbers are concurrency."""
    return as_png(lambda axes: _draw_curve(axes, points))


def as_png(draw_on: Callable[[Any], None]) -> bytes:
    """Return a picture as a PNG, given what draws it on axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure, picture = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained"), io.BytesIO()
    draw_on(figure.add_subplot())
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _draw_curve(axes: Any, points: Sequence[Point]) -> None:
    lines = [list(group) for _, group in groupby(sorted(points, key=_order), key=lambda point: _order(point)[:2])]
    for number, line in enumerate(lines):
        _draw_line(axes, line, f"C{number}")
    _label_axes(axes, points)


def _order(point: Point) -> tuple[str, int, int]:
    return point.layout, point.batch, point.concurrency


def _draw_line(axes: Any, line: Sequence[Point], colour: str) -> None:
    rows, p50, p99 = ([getattr(point, name) for point in line] for name in ("rows_per_s", "p50_ms", "p99_ms"))
    name = f"{line[0].layout}, {line[0].batch} row{'s' if line[0].batch > 1 else ''} per request"
    axes.fill_between(rows, p50, p99, color=colour, alpha=0.10, linewidth=0)
    axes.plot(rows, p50, "o-", color=colour, label=f"{name}: p50")
    axes.plot(rows, p99, "s--", color=colour, markersize=4, linewidth=1, label=f"{name}: p99")
    for point in line:
        place = (point.rows_per_s, point.p50_ms)
        axes.annotate(str(point.concurrency), place, xytext=(8, -10), textcoords="offset points", fontsize=8)


def _label_axes(axes: Any, points: Sequence[Point]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.15)
    if len({point.batch for point in points}) > 1:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(plain)
    axes.set_xlabel("throughput, rows/s")
    axes.set_ylabel("latency of a request, ms")
    axes.set_title("Latency and throughput (numbers: requests in flight)", fontsize=10, loc="left")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
