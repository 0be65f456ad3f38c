"""EASE^R: a linear item-item autoencoder in closed form (Steck, WWW 2019, https://arxiv.org/abs/1905.03375)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from models.baselines.baseline import Scores, check_memory, or_popular, popularity
from models.metrics import Float32Array, Int64Array

MOST_ITEMS = 16_000
"""Beyond this many the inverse takes minutes: the items of most users are then fitted, and the others score 0."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Ease:
    """Scores are the user's interactions times B, where B solves min |X - XB|^2 + l2 |B|^2 with a zero diagonal."""

    l2: float
    most_items: int = MOST_ITEMS

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Invert the Gram matrix of the items, of the `most_items` of most users where there are more."""
        items = interactions.shape[1]
        fitted = min(items, self.most_items)
        check_memory(f"a dense matrix of {fitted:,} x {fitted:,} items", fitted * fitted * 8)
        kept = np.sort(np.argsort(-popularity(interactions), kind="stable")[:fitted])
        own = interactions if fitted == items else interactions[:, kept]
        weights = self.weights(own)

        def scores(users: Int64Array) -> Float32Array:
            own_scores = own[users] @ weights
            if fitted == items:
                return own_scores
            whole = np.zeros((len(users), items), np.float32)
            whole[:, kept] = own_scores
            return whole

        return or_popular(scores, interactions)

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)

    def weights(self, interactions: csr_matrix) -> Float32Array:
        """Return B = I - P / diag(P) with P = (X'X + l2 I)^-1, float32 `[items, items]`."""
        inverse = _inverse((interactions.T @ interactions).toarray(), self.l2)
        inverse /= -np.diag(inverse).copy()
        np.fill_diagonal(inverse, 0)
        return inverse


def _inverse(gram: Float32Array, l2: float) -> Float32Array:
    """Invert gram + l2 I by Cholesky, half the work of a general inverse, in the memory of `gram`."""
    gram[np.diag_indices_from(gram)] += np.float32(l2)
    factor, failed = lapack.spotrf(gram.T, lower=1, overwrite_a=1)  # transposed: Fortran order, so no copy
    inverse, failed_too = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError(f"the Gram matrix with l2 = {l2} has no inverse")
    for start in range(0, len(inverse), _ROWS_AT_ONCE):  # the lower triangle is all there is: mirror it
        end = start + _ROWS_AT_ONCE
        square = inverse[start:end, start:end]
        square += np.tril(square, -1).T
        inverse[start:end, end:] = inverse[end:, start:end].T
    inverse = np.asarray(inverse, np.float32)
    return inverse.T  # it is symmetric, and lies by columns, of which SciPy would make a copy for every product
