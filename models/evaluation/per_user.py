"""Metrics per user, as papers report them: one list of answers for each user, and the mean over users.

docs/metrics.md has each formula and its source, and in what they differ from the figures per row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.metrics import Int64Array

Float64Array = npt.NDArray[np.float64]
NAMES = ("recall", "ndcg", "precision", "hit_rate", "map")


def user_metrics(ranks: Int64Array, users: Int64Array, items: int, ks: Sequence[int]) -> dict[str, float]:
    """Return the mean over users of recall, ndcg, precision, hit rate and average precision at every k.

    Parameters
    ----------
    ranks
        int64 `[pairs]`: where each of a user's distinct test items stands in the user's list, 0-based; `items` where it
        is not in it.
    users
        int64 `[pairs]`: whose test item it is.
    items
        Length of a whole list.
    """
    user = np.unique(users, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((ranks, user))
    user, ranks = user[order], ranks[order]
    relevant = np.bincount(user)
    place = np.arange(len(user)) - np.repeat(np.cumsum(relevant) - relevant, relevant)
    figures: dict[str, float] = {}
    for k in ks:
        hit = ranks < min(k, items)
        values = _at(k, user[hit], ranks[hit], place[hit], relevant)
        figures.update({f"{name}@{k}": float(value.mean()) for name, value in zip(NAMES, values, strict=True)})
    return figures


def _at(
    k: int, user: Int64Array, ranks: Int64Array, place: Int64Array, relevant: Int64Array
) -> tuple[Float64Array, ...]:
    """Return every user's values of NAMES at k, float64 `[users]`, from the hits, best first; `place` is how many hits
    of the user stand before one."""

    def total(values: Float64Array) -> Float64Array:
        return np.asarray(np.bincount(user, weights=values, minlength=len(relevant)), np.float64)

    hits = total(np.ones(len(user)))
    gains = 1 / np.log2(np.arange(k) + 2.0)
    ideal = np.cumsum(gains)[np.minimum(k, relevant) - 1]
    ndcg = total(1 / np.log2(ranks + 2.0)) / ideal
    precision_at_hits = (place + 1) / (ranks + 1.0)
    return hits / relevant, ndcg, hits / k, (hits > 0).astype(np.float64), total(precision_at_hits) / relevant
