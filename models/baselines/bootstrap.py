"""How sure a figure is: the bootstrap over users (Efron and Tibshirani, 1993)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.metrics import Int64Array

Float64Array = npt.NDArray[np.float64]

RESAMPLES = 500
_DRAWS_AT_ONCE = 1 << 22


def resampled_means(values: Float64Array, users: Int64Array, seed: int, resamples: int = RESAMPLES) -> Float64Array:
    """Return the columns' means, float64 `[resamples, columns]`, over the rows of users drawn with replacement.

    `values` is float64 `[rows, columns]`, `users` int64 `[rows]`. Users are drawn, not rows, as those of one user
    go together. Every column sees the same draws, so that differences of columns may be taken.
    """
    distinct, user = np.unique(users, return_inverse=True)
    count = len(distinct)
    rows = np.bincount(user, minlength=count).astype(np.float64)
    sums = np.stack([np.bincount(user, weights=column, minlength=count) for column in values.T], axis=1)
    random, means = np.random.default_rng(seed), []
    step = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        drawn = random.integers(0, count, (draws, count)) + np.arange(draws)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)
        means.append(weights @ sums / (weights @ rows)[:, None])
    return np.concatenate(means)


def interval(means: Float64Array) -> list[float]:
    """Return the bounds that hold 95 % of the resampled means, float64 `[resamples]`."""
    return [float(bound) for bound in np.percentile(means, (2.5, 97.5))]
