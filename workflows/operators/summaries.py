"""Statistics of a column that comes in parts: each part is summarised by itself, and the summaries are merged.

What NVTabular and Dask do instead: the variance as the mean of the squares less the square of the mean, which loses
the spread of numbers that are large beside it, and quantiles of several parts from each part's at the same levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from dask.delayed import delayed

from workflows.operators.frames import floats

Float64 = npt.NDArray[np.float64]
SAMPLE: Final = 10_000
"""Numbers that a part is summarised by for quantiles; their ranks are off by at most a share of 1 / SAMPLE of all."""


class Moments(NamedTuple):
    """How many numbers there are, their mean, and the sum of the squared deviations from it."""

    size: int
    mean: float
    squares: float

    @property
    def deviation(self) -> float:
        """Return the standard deviation with Bessel's correction, NaN of fewer than two numbers."""
        return math.sqrt(self.squares / (self.size - 1)) if self.size > 1 else math.nan


class Sample(NamedTuple):
    """Numbers in rising order, and how many each stands for."""

    values: Float64
    weights: npt.NDArray[np.int64]


def each_part(column: Any, summarise: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return, delayed, the summary of each part of a Dask column."""
    return [delayed(summarise)(part, *arguments) for part in column.to_delayed(optimize_graph=False)]


def moments(values: Any) -> Moments:
    """Return the moments of a pandas or cuDF column without nulls; not finite where a number or its square is not."""
    if not len(values):
        return Moments(0, math.nan, math.nan)
    # Counted from the least of them, equal numbers have no deviation at all, whatever they round to.
    least = float(values.min())
    with np.errstate(over="ignore", invalid="ignore"):
        above = values - least
        mean = float(above.mean())
        return Moments(len(values), least + mean, float(((above - mean) ** 2).sum(skipna=False)))


def merge_moments(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts together (Chan, Golub and LeVeque 1979)."""
    size, mean, squares = 0, math.nan, 0.0
    for part in parts:
        if part.size and size:
            apart, together = part.mean - mean, size + part.size
            squares += part.squares + apart * apart * (size * part.size / together)
            mean += apart * part.size / together
            size = together
        elif part.size:
            size, mean, squares = part
    return Moments(size, mean, squares)


def sample(values: Any, size: int | None) -> Sample:
    """Return a column's finite numbers, or the middle ones of `size` stretches of equally many."""
    numbers = floats(values)
    numbers = np.sort(numbers[np.isfinite(numbers)])
    if size is None or len(numbers) <= size:
        return Sample(numbers, np.ones(len(numbers), dtype=np.int64))
    bounds = np.linspace(0, len(numbers), size + 1).astype(np.int64)
    return Sample(numbers[(bounds[:-1] + bounds[1:] - 1) // 2], np.diff(bounds))


def quantiles(samples: Sequence[Sample], levels: Float64) -> Float64:
    """Return the quantiles of all that the samples stand for, float64 [levels], linear between two ranks."""
    values = np.concatenate([sample.values for sample in samples])
    order = np.argsort(values, kind="stable")
    values, reached = values[order], np.concatenate([sample.weights for sample in samples])[order].cumsum()
    ranks = levels * (reached[-1] - 1)
    low, high = (values[reached.searchsorted(position, side="right")] for position in (np.floor(ranks), np.ceil(ranks)))
    return np.asarray(low + (high - low) * (ranks - np.floor(ranks)))
