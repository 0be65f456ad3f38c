"""What a search of the server's options found: as a table, as a picture, and in words."""

from __future__ import annotations

import io

from rich.table import Table

from ensemble.measure.sweep import Measured, Sweep


def conclusion(found: Sweep) -> str:
    """Say which setting is best, as lines to paste into a recipe, or what came nearest."""
    skipped = f" ({found.left_out} settings were left out: the time was up)" if found.left_out else ""
    best = found.best or min(found.measured, key=lambda one: one.point.p99_ms)
    told = "best within" if found.best else "nothing meets"
    return f"{told} p99 {found.p99_ms:g} ms{skipped}: {_load(best)} with\n{best.setting.recipe()}"


def sweep_table(found: Sweep) -> Table:
    """Return every measurement, by rows/s; what no other beats in both rows/s and p99 is marked."""
    shown = Table(title=f"Server options for p99 {found.p99_ms:g} ms", title_justify="left")
    for name in (
        "instances",
        "threads",
        "queue delay,\nmicroseconds",
        "rows x\nin flight",
        "rows/s",
        "p50, ms",
        "p99, ms",
    ):
        shown.add_column(name, justify="right")
    shown.add_column("")
    frontier = found.frontier()
    for one in sorted(found.measured, key=lambda one: -one.point.rows_per_s):
        setting, point = one.setting, one.point
        options = (setting.instances, setting.threads, setting.max_queue_delay_microseconds)
        load, rates = f"{point.batch} x {point.concurrency}", (f"{point.rows_per_s:,.0f}", f"{point.p50_ms:.2f}")
        mark = "best" if one == found.best else "frontier" if one in frontier else ""
        late = "[red]" if point.p99_ms > found.p99_ms else ""
        shown.add_row(*map(str, options), load, *rates, f"{late}{point.p99_ms:.2f}", mark)
    return shown


def draw(found: Sweep) -> bytes:
    """Return rows/s against p99 as a PNG: every measurement, the frontier, the objective and the best."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(*_places(found.measured), color="0.7", s=18, label="measured")
    axes.plot(*_places(found.frontier()), "o-", color="C0", label="no other has more rows/s at a lower p99")
    axes.axvline(found.p99_ms, color="C3", linestyle="--", linewidth=1, label=f"objective, {found.p99_ms:g} ms")
    if found.best is not None:
        axes.scatter(*_places([found.best]), color="C3", marker="*", s=160, zorder=3, label=_load(found.best))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("p99 of a request, ms")
    axes.set_ylabel("rows/s")
    axes.set_title("Server options: throughput and latency", fontsize=10, loc="left")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _places(measured: list[Measured]) -> tuple[list[float], list[float]]:
    return [one.point.p99_ms for one in measured], [one.point.rows_per_s for one in measured]


def _load(one: Measured) -> str:
    point = one.point
    load = f"{point.batch} row{'s' if point.batch > 1 else ''} x {point.concurrency} in flight"
    return f"{point.rows_per_s:,.0f} rows/s, p99 {point.p99_ms:.2f} ms at {load}"
