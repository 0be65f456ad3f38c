"""EASE^R: a linear item-item autoencoder in closed form (Steck, WWW 2019, https://arxiv.org/abs/1905.03375)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from models.baselines.baseline import Scores, check_memory, or_popular
from models.metrics import Float32Array, Int64Array

_BYTES_PER_PAIR = 24
"""At the peak: the Gram matrix as sparse float32 with its indices, as dense float32 and as float64."""


@dataclass(frozen=True)
class Ease:
    """Scores are the user's interactions times B, where B solves min |X - XB|^2 + l2 |B|^2 with a zero diagonal."""

    l2: float

    def fit(self, interactions: csr_matrix) -> Scores:
        """Invert the items' Gram matrix."""
        items = interactions.shape[1]
        check_memory(f"a dense matrix of {items:,} x {items:,} items and its inverse", items * items * _BYTES_PER_PAIR)
        weights = self.weights(interactions)

        def scores(users: Int64Array) -> Float32Array:
            return interactions[users] @ weights

        return or_popular(scores, interactions)

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)

    def weights(self, interactions: csr_matrix) -> Float32Array:
        """Return B = I - P / diag(P) with P = (X'X + l2 I)^-1, float32 `[items, items]`."""
        inverse = _inverse((interactions.T @ interactions).toarray().astype(np.float64), self.l2)
        inverse /= -np.diag(inverse).copy()
        np.fill_diagonal(inverse, 0)
        return inverse.astype(np.float32)


def _inverse(gram: np.ndarray, l2: float) -> np.ndarray:
    """Invert gram + l2 I by Cholesky, half the work of a general inverse."""
    gram[np.diag_indices_from(gram)] += l2
    factor, failed = lapack.dpotrf(gram.T, lower=1, overwrite_a=1)  # transposed: Fortran order, so no copy
    inverse, failed_too = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise np.linalg.LinAlgError(f"the Gram matrix with l2 = {l2} has no inverse")
    inverse += np.tril(inverse, -1).T
    return inverse
