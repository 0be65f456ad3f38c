"""Line charts as inline SVG, coloured by the page's CSS so that they follow its light or dark theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 46


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    """Written beside the points; empty for none."""


def over_epochs(name: str, history: Sequence[Mapping[str, float]], key: str) -> Series:
    """Return a figure over the epochs that have it: epoch 0, of towers that go on from others, has no loss."""
    rows = [row for row in history if key in row]
    return Series(name, [float(row["epoch"]) for row in rows], [float(row[key]) for row in rows])


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`, both multiples of `step`."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float], from_zero: bool = False) -> Axis:
        """Return an axis that holds `values` with about five round ticks; whole numbers get whole ticks."""
        ends = [*values, 0.0] if from_zero else values
        low, high = min(ends), max(ends)
        spread = (high - low) or abs(high) or 1.0
        step = _round_step(spread / 5)
        if all(float(value).is_integer() for value in values):
            step = float(math.ceil(step))
        bottom, top = math.floor(low / step), math.ceil(high / step)
        return cls(bottom * step, max(top, bottom + 1) * step, step)

    def ticks(self) -> list[float]:
        """Return where the axis is labelled."""
        return [self.low + self.step * index for index in range(round((self.high - self.low) / self.step) + 1)]

    def place(self, value: float) -> float:
        """Return where `value` is on the axis, 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


def line_chart(series: Sequence[Series], x_label: str, y_label: str, from_zero: bool = False) -> str:
    """Return the chart as one `<svg>` element; series `n` has the CSS class `series-n`."""
    x_axis = Axis.over([value for line in series for value in line.x], from_zero)
    y_axis = Axis.over([value for line in series for value in line.y], from_zero)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} over {escape(x_label)}">',
        *_grid(x_axis, y_axis),
        f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text class="label" transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
    ]
    for number, line in enumerate(series):
        parts += _line(number, line, x_axis, y_axis)
    return "\n".join([*parts, "</svg>"])


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = []
    for tick in y_axis.ticks():
        y = _y(y_axis, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(tick)}</text>')
    for tick in x_axis.ticks():
        x = _x(x_axis, tick)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_tick(tick)}</text>'
        )
    return parts


def _line(number: int, series: Series, x_axis: Axis, y_axis: Axis) -> list[str]:
    points = [(_x(x_axis, x), _y(y_axis, y)) for x, y in zip(series.x, series.y, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<g class="series-{number}">', f'<polyline points="{path}"/>']
    for (x, y), raw_x, raw_y in zip(points, series.x, series.y, strict=True):
        title = f"{series.name}: {_tick(raw_y)} at {_tick(raw_x)}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(title)}</title></circle>')
    for (x, y), text in zip(points, series.labels, strict=False):
        parts.append(f'<text class="tick" x="{x - 6:.1f}" y="{y - 8:.1f}" text-anchor="end">{escape(text)}</text>')
    return [*parts, "</g>"]


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)


def _tick(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"


def _round_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(step * magnitude for step in (1, 2, 2.5, 5, 10) if step * magnitude >= rough * 0.999)
