"""ALS for implicit feedback (Hu, Koren and Volinsky, ICDM 2008), from the library `implicit`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.baseline import Refused, Scores, check_memory, or_popular, popularity
from models.metrics import Float32Array, Int64Array

MISSING = "needs the library implicit, an extra: pip install 'merlin-retrieval[peers]'"


@dataclass(frozen=True)
class Als:
    """Factors of users and items; `alpha` is the weight of an interaction against that of its absence. It falls with
    the item's number of users n as n ** -item_exponent: to have what everybody has says little."""

    factors: int = 64
    regularization: float = 10
    alpha: float = 5
    item_exponent: float = 0
    iterations: int = 15
    seed: int = 0

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Alternate least squares."""
        users_vectors, item_vectors = self.vectors(interactions)

        def scores(users: Int64Array) -> Float32Array:
            return users_vectors[users] @ item_vectors.T

        return or_popular(scores, interactions)

    def vectors(self, interactions: csr_matrix) -> tuple[Float32Array, Float32Array]:
        """Return the factors of users and of items, on as many threads as there are processors, with BLAS on one."""
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits
        except ImportError:
            raise Refused(MISSING) from None
        check_memory(f"{self.factors} factors of every user and item", sum(interactions.shape) * self.factors * 8)
        settings = {**asdict(self), "random_state": self.seed}
        del settings["seed"], settings["item_exponent"]
        # implicit runs its own threads, and each would start BLAS's: slower by far, it says.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(**settings, dtype=np.float32)
            model.fit(self._weighted(interactions), show_progress=False)
        return np.asarray(model.user_factors), np.asarray(model.item_factors)

    def _weighted(self, interactions: csr_matrix) -> csr_matrix:
        """Return interactions with the weights of their items, of which the geometric mean is 1."""
        if not self.item_exponent:
            return interactions
        logarithms = np.log(popularity(interactions)[interactions.indices])
        weights = np.exp(self.item_exponent * (logarithms.mean() - logarithms)).astype(np.float32)
        return csr_matrix((interactions.data * weights, interactions.indices, interactions.indptr), interactions.shape)

    def settings(self) -> dict[str, float]:
        """Return the settings by name, those that are searched."""
        searched = ("factors", "regularization", "alpha", "item_exponent")
        return {name: getattr(self, name) for name in searched}
