"""The most popular items for everybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.baseline import Scores, popularity
from models.metrics import Float32Array, Int64Array


@dataclass(frozen=True)
class Popularity:
    """Items ordered by their number of users."""

    def fit(self, interactions: csr_matrix) -> Scores:
        """Count."""
        counts = popularity(interactions)

        def scores(users: Int64Array) -> Float32Array:
            return np.broadcast_to(counts, (len(users), len(counts)))

        return scores

    def settings(self) -> dict[str, float]:
        """There are none."""
        return {}
