"""Item-based nearest neighbours with cosine similarity (Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags, vstack

from models.baselines.baseline import Refused, Scores, check_memory, or_popular
from models.metrics import Float32Array, Int64Array

_ROWS_AT_ONCE = 256
_MOST_ITEMS = 100_000
"""All pairs of items are compared: beyond this it takes hours."""


def check_items(interactions: csr_matrix, neighbours: int) -> None:
    """Raise Refused where all pairs of items are too many to compare, or so many neighbours of each to keep."""
    items = interactions.shape[1]
    if items > _MOST_ITEMS:
        raise Refused(f"comparing all pairs of {items:,} items takes too long; at most {_MOST_ITEMS:,}")
    check_memory(f"{neighbours} neighbours of {items:,} items", items * neighbours * 12)


def weighted_users(interactions: csr_matrix, exponent: float) -> csr_matrix:
    """Return interactions `[users, items]` where those of a user of n items count n ** -exponent."""
    lengths = np.maximum(np.diff(interactions.indptr), 1)
    return (diags((lengths ** np.float32(-exponent)).astype(np.float32)) @ interactions).tocsr()


def nearest(
    weighted: csr_matrix,
    interactions: csr_matrix,
    neighbours: int,
    similarity: Callable[[Int64Array, Int64Array, Float32Array], Float32Array],
) -> csr_matrix:
    """Return each item's most similar others, `[items, items]`, at most `neighbours` a row, block by block.

    `similarity` gets items, others, and the sum of the weights of their common users, `[pairs]` each.
    """
    transposed, blocks = weighted.T.tocsr(), []
    for start in range(0, transposed.shape[0], _ROWS_AT_ONCE):
        similar = (transposed[start : start + _ROWS_AT_ONCE] @ interactions).tocsr()
        item = start + np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
        similar.data = similarity(item, similar.indices, similar.data)
        similar.data[item == similar.indices] = 0
        for first, end in zip(similar.indptr[:-1], similar.indptr[1:], strict=True):
            if end - first > neighbours:
                far = np.argpartition(similar.data[first:end], -neighbours)[:-neighbours]
                similar.data[first + far] = 0
        similar.eliminate_zeros()
        blocks.append(similar)
    return vstack(blocks, format="csr")


@dataclass(frozen=True)
class ItemKnn:
    """An item's score is the sum of its similarities to the user's items, over its nearest neighbours only.

    Similarity: users of both / (sqrt(users of one * users of the other) + shrinkage), where a user of n items counts
    n ** -user_exponent.
    """

    neighbours: int = 100
    shrinkage: float = 10
    user_exponent: float = 0

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Find every item's neighbours, block by block."""
        neighbours = self.item_scores(interactions)
        profiles = self.profiles(interactions, later)

        def scores(users: Int64Array) -> Float32Array:
            return (profiles[users] @ neighbours).toarray()

        return or_popular(scores, interactions)

    def item_scores(self, interactions: csr_matrix) -> csr_matrix:
        """Return what each item of a user adds to every item's score, `[items, items]`; raise Refused as `fit`."""
        check_items(interactions, self.neighbours)
        return self.similarities(interactions).T.tocsr()

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)

    def similarities(self, interactions: csr_matrix) -> csr_matrix:
        """Return each item's neighbours, `[items, items]`, at most `neighbours` a row, itself left out."""
        weighted = weighted_users(interactions, self.user_exponent)
        norms = np.sqrt(np.asarray(weighted.sum(axis=0), np.float32).ravel())

        def similarity(item: Int64Array, other: Int64Array, common: Float32Array) -> Float32Array:
            return common / (norms[item] * norms[other] + np.float32(self.shrinkage))

        return nearest(weighted, interactions, self.neighbours, similarity)

    def profiles(self, interactions: csr_matrix, later: csr_matrix | None) -> csr_matrix:
        """Return how much each of a user's items counts, `[users, items]`."""
        return interactions


@dataclass(frozen=True)
class RecentItemKnn(ItemKnn):
    """The same, with a user's earlier items counting less: each by `decay` to the power of how many came later."""

    decay: float = 0.9

    def profiles(self, interactions: csr_matrix, later: csr_matrix | None) -> csr_matrix:
        """Return how much each of a user's items counts, `[users, items]`; raise Refused without times."""
        if later is None:
            raise Refused("the interactions have no time, so that none is recent")
        weights = (self.decay**later.data).astype(np.float32)
        return csr_matrix((np.maximum(weights, np.float32(1e-30)), later.indices, later.indptr), shape=later.shape)
