"""When things happened, as bars over time."""

from __future__ import annotations

import time
from html import escape

import numpy as np

WIDTH, HEIGHT = 720, 56
BINS = 120
_SHORT = 3 * 86_400
"""Seconds: in a shorter time the hours tell."""


def timeline(seconds: np.ndarray, now: int | None = None, what: str = "interactions") -> str:
    """Return bars of how many of `seconds`, int64 [n] since 1970, fall in each stretch, with dates below; a line marks
    `now`."""
    first, last = int(seconds.min()), int(seconds.max())
    span, precise = max(1, last - first), last - first < _SHORT
    bins = np.minimum((seconds - first) * BINS // span, BINS - 1)
    counts = np.bincount(bins.astype(np.int64), minlength=BINS)
    label = f"{len(seconds):,} {what} from {_day(first)} to {_day(last)}"
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    step, tallest = WIDTH / BINS, int(counts.max())
    for place in np.flatnonzero(counts).tolist():
        height = max(3.0, (HEIGHT - 4) * counts[place] / tallest)
        told = f"{counts[place]} on {_day(first + place * span // BINS, precise)}"
        parts.append(
            f'<rect x="{place * step:.1f}" y="{HEIGHT - height:.1f}" width="{max(step - 1, 3):.1f}" '
            f'height="{height:.1f}"><title>{told}</title></rect>'
        )
    parts.append(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>')
    if now is not None:
        x = min(max((now - first) / span, 0.0), 1.0) * (WIDTH - 2) + 1
        parts.append(f'<line class="now" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>')
    ends = f"<span>{_day(first, precise)}</span><span>{_day(last, precise)}</span>"
    return "".join([*parts, f'</svg><p class="ends soft" aria-hidden="true">{ends}</p>'])


def _day(seconds: int, precise: bool = False) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S" if precise else "%Y-%m-%d", time.gmtime(seconds))
