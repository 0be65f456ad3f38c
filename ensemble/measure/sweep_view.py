"""Presents a search of the server's options: as a table, a picture and a sentence."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ensemble.measure.points import as_png
from ensemble.measure.sweep import Measured, Sweep


def conclusion(sweep: Sweep) -> str:
    """Return the best setting as lines for a recipe, or the setting that came nearest."""
    skipped = f" ({sweep.left_out} settings were left out: the time was up)" if sweep.left_out else ""
    best = sweep.best or min(sweep.measured, key=lambda result: result.point.p99_ms)
    verdict = "best within" if sweep.best else "nothing meets"
    return f"{verdict} p99 {sweep.p99_ms:g} ms{skipped}: {_load(best)} with\n{best.setting.recipe()}"


def sweep_table(sweep: Sweep) -> Table:
    """Return every measurement by rows/s, with the frontier marked."""
    shown = Table(title=f"Server options for p99 {sweep.p99_ms:g} ms", title_justify="left")
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
    frontier = sweep.frontier()
    for result in sorted(sweep.measured, key=lambda result: -result.point.rows_per_s):
        setting, point = result.setting, result.point
        options = (setting.instances, setting.threads, setting.max_queue_delay_microseconds)
        load, rates = f"{point.batch} x {point.concurrency}", (f"{point.rows_per_s:,.0f}", f"{point.p50_ms:.2f}")
        mark = "best" if result == sweep.best else "frontier" if result in frontier else ""
        late = "[red]" if point.p99_ms > sweep.p99_ms else ""
        shown.add_row(*map(str, options), load, *rates, f"{late}{point.p99_ms:.2f}", mark)
    return shown


def draw(sweep: Sweep) -> bytes:
    """Return rows/s against p99 as a PNG: every measurement, the frontier, the objective and the best."""
    return as_png(lambda axes: _draw(axes, sweep))


def _draw(axes: Any, sweep: Sweep) -> None:
    axes.scatter(*_places(sweep.measured), color="0.7", s=18, label="measured")
    axes.plot(*_places(sweep.frontier()), "o-", color="C0", label="no other has more rows/s at a lower p99")
    axes.axvline(sweep.p99_ms, color="C3", linestyle="--", linewidth=1, label=f"objective, {sweep.p99_ms:g} ms")
    if sweep.best is not None:
        axes.scatter(*_places([sweep.best]), color="C3", marker="*", s=160, zorder=3, label=_load(sweep.best))
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("p99 of a request, ms")
    axes.set_ylabel("rows/s")
    axes.set_title("Server options: throughput and latency", fontsize=10, loc="left")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def _places(measured: list[Measured]) -> tuple[list[float], list[float]]:
    return [result.point.p99_ms for result in measured], [result.point.rows_per_s for result in measured]


def _load(result: Measured) -> str:
    point = result.point
    load = f"{point.batch} row{'s' if point.batch > 1 else ''} x {point.concurrency} in flight"
    return f"{point.rows_per_s:,.0f} rows/s, p99 {point.p99_ms:.2f} ms at {load}"
