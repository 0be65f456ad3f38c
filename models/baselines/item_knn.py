"""Item-based nearest neighbours with cosine similarity (Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags, vstack

from models.baselines.baseline import Refused, Scores, check_memory, or_popular
from models.metrics import Float32Array, Int64Array

_ROWS_AT_ONCE = 256
_MOST_ITEMS = 100_000
"""All pairs of items are compared: beyond this it takes hours."""


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
        items = interactions.shape[1]
        if items > _MOST_ITEMS:
            raise Refused(f"comparing all pairs of {items:,} items takes too long; at most {_MOST_ITEMS:,}")
        check_memory(f"{self.neighbours} neighbours of {items:,} items", items * self.neighbours * 12)
        return self.similarities(interactions).T.tocsr()

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)

    def similarities(self, interactions: csr_matrix) -> csr_matrix:
        """Return each item's neighbours, `[items, items]`, at most `neighbours` a row, itself left out."""
        lengths = np.maximum(np.diff(interactions.indptr), 1)
        weights = (lengths ** np.float32(-self.user_exponent)).astype(np.float32)
        weighted = (diags(weights) @ interactions).tocsr()
        norms = np.sqrt(np.asarray(weighted.sum(axis=0), np.float32).ravel())
        transposed, starts = weighted.T.tocsr(), range(0, len(norms), _ROWS_AT_ONCE)
        blocks = [
            self._block(transposed[start : start + _ROWS_AT_ONCE], interactions, norms, start) for start in starts
        ]
        return vstack(blocks, format="csr")

    def profiles(self, interactions: csr_matrix, later: csr_matrix | None) -> csr_matrix:
        """Return how much each of a user's items counts, `[users, items]`."""
        return interactions

    def _block(self, rows: csr_matrix, interactions: csr_matrix, norms: Float32Array, start: int) -> csr_matrix:
        similar = (rows @ interactions).tocsr()
        item = start + np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
        similar.data /= norms[item] * norms[similar.indices] + np.float32(self.shrinkage)
        similar.data[item == similar.indices] = 0
        for first, end in zip(similar.indptr[:-1], similar.indptr[1:], strict=True):
            if end - first > self.neighbours:
                far = np.argpartition(similar.data[first:end], -self.neighbours)[: -self.neighbours]
                similar.data[first + far] = 0
        similar.eliminate_zeros()
        return similar


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
