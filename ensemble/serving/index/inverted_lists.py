"""Chooses the inverted lists for a filtered query by the number of answers that each is expected to hold.

An unfiltered search reads the lists with the nearest centroids. With a filter that is wrong: the nearest lists may hold
nothing that is allowed, and how far to look differs from query to query. Here the scores of a list's items are modelled
as normal, with the mean and spread that its centroid and residuals imply, and the number of its *allowed* items is
known. That gives the score of the last answer and the expected number of answers in every list. Lists are read in the
order of answers per item, until at most a given share of the answers is expected in the rest.
"""

from __future__ import annotations

import math
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..search.masks import ItemMask
from .vectors import normalised

_SAMPLE = 1 << 16
_RARE = 16
_PRIOR = 8  # a list's spread is held to that of all lists as if so many of its sampled items had it
_STEPS = 10
_REACH = 8.0
_FAR = 5.5
"""Lists whose mean is so many spreads below what the last answer scores hold none."""
_PER_UNIT = 64
_TAIL = np.array([0.5 * math.erfc(z / _PER_UNIT / math.sqrt(2)) for z in range(-512, 513)], dtype=np.float32)
"""The normal distribution's upper tail from z = -8 to 8."""


class Probes(NamedTuple):
    """The lists to read, and the cost."""

    distances: np.ndarray
    """float32 [n, m]: FAISS's distances of the lists' centroids."""
    lists: np.ndarray
    """int64 [n, m]; -1 past a row's own number."""
    reads: float
    """Items in them, the mean over the rows."""


class Lists:
    """The inverted lists of an IVF index."""

    def __init__(self, centroids: np.ndarray, list_of_item: np.ndarray, vectors: np.ndarray, metric: str) -> None:
        """Take the lists' centroids, float32 [lists, d], and the list, int32 [items], and vector of every item."""
        self._is_l2 = metric == "l2"
        self._list_of = list_of_item
        self._centroids = centroids
        self._sizes = np.bincount(list_of_item, minlength=len(self._centroids))
        sample = np.arange(0, len(list_of_item), max(1, len(list_of_item) // _SAMPLE))
        own, items = list_of_item[sample], vectors[sample]
        if metric == "cosine":
            items = normalised(items)
        nearest = self._centroids[own]
        # For inner products FAISS gives centroids the length 1, whatever that of their items is.
        lengths = np.einsum("id,id->i", items, nearest) / np.maximum(np.einsum("id,id->i", nearest, nearest), 1e-12)
        self._means = self._centroids * self._by_list(own, lengths)[:, None]
        """Of the items in every list."""
        residuals = items - self._means[own]
        variances = np.einsum("id,id->i", residuals, residuals) / vectors.shape[1]
        self._spread = np.sqrt(np.maximum(self._by_list(own, variances), 1e-12))
        """Of the items about their mean, per dimension."""
        self._counts: WeakKeyDictionary[ItemMask, np.ndarray] = WeakKeyDictionary()

    def choose(self, queries: np.ndarray, mask: ItemMask, fetch: int, missing: float) -> Probes:
        """Return the lists that are expected to hold all but the share `missing` of the `fetch` best allowed items."""
        counts = self._allowed(mask)
        not_empty = np.flatnonzero(counts)
        if not len(not_empty):
            return Probes(np.zeros((len(queries), 1), np.float32), np.full((len(queries), 1), -1), 0.0)
        mean, spread, distances = self._scores(queries, not_empty)
        weights, sizes, items = counts[not_empty], self._sizes[not_empty], min(fetch, mask.count)
        rows = [_read_first(*scores, weights, sizes, items, missing) for scores in zip(mean, spread, strict=True)]
        width = max(map(len, rows))
        lists = np.full((len(rows), width), -1, dtype=np.int64)
        picked = np.zeros((len(rows), width), dtype=np.float32)
        for row, chosen in enumerate(rows):
            lists[row, : len(chosen)], picked[row, : len(chosen)] = not_empty[chosen], distances[row, chosen]
        return Probes(picked, lists, float(sum(sizes[chosen].sum() for chosen in rows)) / len(rows))

    def _by_list(self, own: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return each list's mean of its items' values, float32 [lists], drawn to the overall mean if it has few."""
        counts = np.bincount(own, minlength=len(self._sizes))
        sums = np.bincount(own, values, minlength=len(self._sizes))
        return ((sums + _PRIOR * values.mean()) / (counts + _PRIOR)).astype(np.float32)

    def _allowed(self, mask: ItemMask) -> np.ndarray:
        """Return the number of allowed items in every list."""
        counts = self._counts.get(mask)
        if counts is None:
            if mask.count * _RARE < mask.total:
                items = mask.items
                allowed = self._list_of[items[: items.searchsorted(len(self._list_of))]]
            else:
                allowed = self._list_of[mask.bits[: len(self._list_of)]]
            counts = self._counts[mask] = np.bincount(allowed, minlength=len(self._centroids))
        return counts

    def _scores(self, queries: np.ndarray, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and spread of the scores in `lists`, and FAISS's distances of their centroids."""
        spread, distances = self._spread[lists], queries @ self._centroids[lists].T
        own = queries @ self._means[lists].T
        length = np.einsum("nd,nd->n", queries, queries)[:, None]
        if not self._is_l2:
            return own, np.maximum(np.sqrt(length) * spread, 1e-9), distances
        distances = length + np.einsum("ld,ld->l", self._centroids[lists], self._centroids[lists]) - 2 * distances
        away = np.maximum(length + np.einsum("ld,ld->l", self._means[lists], self._means[lists]) - 2 * own, 0)
        mean = -0.5 * (away + self._means.shape[1] * spread**2)
        return mean, np.maximum(np.sqrt(away) * spread, 1e-9), np.maximum(distances, 0)


def _read_first(
    mean: np.ndarray, spread: np.ndarray, counts: np.ndarray, sizes: np.ndarray, fetch: int, missing: float
) -> np.ndarray:
    """Return the lists that one query reads, int64 [m]; the arguments are arrays over all lists."""
    order = (-mean).argsort()
    place = int(counts[order].cumsum().searchsorted(2 * fetch))
    # Half of a list's items score above its mean: from here up there are `fetch` of them.
    low = float(mean[order[place]]) if place < len(order) else float((mean - _REACH * spread).min())
    near = (mean + _FAR * spread >= low).nonzero()[0]
    mean, spread, counts = mean[near], spread[near], counts[near].astype(np.float32)
    high = float((mean + _REACH * spread).max())
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if counts @ _above(middle, mean, spread) > fetch:
            low = middle
        else:
            high = middle
    answers = counts * _above(low, mean, spread)
    order = (answers / -sizes[near]).argsort()
    expected = answers[order].cumsum()
    return near[order[: 1 + int(expected.searchsorted(expected[-1] * (1 - missing)))]]


def _above(score: float, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the expected share of each list's items with a higher score, float32 [lists]."""
    z = (score - mean) / spread
    return _TAIL.take((z * _PER_UNIT + 512).astype(np.int32), mode="clip")
