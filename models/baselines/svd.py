"""Truncated SVD of normalised interactions (Cremonesi et al., RecSys 2010; as a filter Shen et al., CIKM 2021)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags

from models.baselines.baseline import Scores, check_memory, or_popular, popularity
from models.baselines.subspace import right_vectors
from models.metrics import Float32Array, Int64Array


@dataclass(frozen=True)
class Svd:
    """Scores are X D^-e V V' D^e: V are the first right singular vectors of the interactions X, where a user of n items
    counts n ** -user_exponent and an item of n users n ** -e; D holds the items' n."""

    factors: int = 128
    user_exponent: float = 0.25
    item_exponent: float = 0.4

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Find the singular vectors."""
        users, items = self.vectors(interactions)

        def scores(some: Int64Array) -> Float32Array:
            return users[some] @ items.T

        return or_popular(scores, interactions)

    def vectors(self, interactions: csr_matrix) -> tuple[Float32Array, Float32Array]:
        """Return factors of users, float32 `[users, factors]`, and of items, `[items, factors]`."""
        rank = min(self.factors, *interactions.shape)
        check_memory(f"{rank} factors of every user and item", sum(interactions.shape) * rank * 8)
        lengths = np.maximum(np.diff(interactions.indptr), 1).astype(np.float32)
        counts = np.maximum(popularity(interactions), 1)
        by_item = diags(counts**-self.item_exponent)
        normalised = (diags(lengths**-self.user_exponent) @ interactions @ by_item).tocsr().astype(np.float32)
        vectors = right_vectors(normalised.__matmul__, normalised.T.tocsr().__matmul__, normalised.shape, rank)
        users = interactions @ (by_item @ vectors).astype(np.float32)
        return users, (vectors * (counts**self.item_exponent)[:, np.newaxis]).astype(np.float32)

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)
