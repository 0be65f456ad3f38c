"""Item-based nearest neighbours with cosine similarity (Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix, vstack

from models.baselines.baseline import Refused, Scores, check_memory, or_popular, popularity
from models.metrics import Float32Array, Int64Array

_SIMILARITIES_AT_ONCE = 1 << 24
_MOST_ITEMS = 100_000
"""All pairs of items are compared: beyond this it takes hours."""


@dataclass(frozen=True)
class ItemKnn:
    """An item's score is the sum of its similarities to the user's items, over its nearest neighbours only.

    Similarity: users of both / (sqrt(users of one * users of the other) + shrinkage).
    """

    neighbours: int
    shrinkage: float

    def fit(self, interactions: csr_matrix) -> Scores:
        """Find every item's neighbours, block by block."""
        items = interactions.shape[1]
        if items > _MOST_ITEMS:
            raise Refused(f"comparing all pairs of {items:,} items takes too long; at most {_MOST_ITEMS:,}")
        check_memory(f"{self.neighbours} neighbours of {items:,} items", items * self.neighbours * 12)
        neighbours = self.similarities(interactions).T.tocsr()

        def scores(users: Int64Array) -> Float32Array:
            return (interactions[users] @ neighbours).toarray()

        return or_popular(scores, interactions)

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)

    def similarities(self, interactions: csr_matrix) -> csr_matrix:
        """Return each item's neighbours, `[items, items]`, at most `neighbours` a row, itself left out."""
        transposed, norms = interactions.T.tocsr(), np.sqrt(popularity(interactions))
        step = max(1, _SIMILARITIES_AT_ONCE // interactions.shape[1])
        blocks = [
            self._block(transposed, interactions, norms, np.arange(start, min(start + step, len(norms))))
            for start in range(0, len(norms), step)
        ]
        return vstack(blocks, format="csr")

    def _block(
        self, transposed: csr_matrix, interactions: csr_matrix, norms: Float32Array, rows: Int64Array
    ) -> csr_matrix:
        similar = (transposed[rows] @ interactions).toarray()
        # An item without users is like nothing; without shrinkage its denominator would be 0.
        similar /= np.maximum(norms[rows, None] * norms + np.float32(self.shrinkage), np.finfo(np.float32).tiny)
        similar[np.arange(len(rows)), rows] = 0
        kept = min(self.neighbours, similar.shape[1])
        nearest = np.argpartition(similar, -kept, axis=1)[:, -kept:]
        values = np.take_along_axis(similar, nearest, axis=1)
        offsets = np.arange(len(rows) + 1) * kept
        block = csr_matrix((values.ravel(), nearest.ravel(), offsets), shape=similar.shape)
        block.eliminate_zeros()
        return block
