"""RP3beta: a random walk from a user's items to users of them and on to theirs (Paudel et al., ACM TiiS 7:1, 2017)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.baseline import Scores, or_popular, popularity
from models.baselines.item_knn import check_items, nearest, weighted_users
from models.metrics import Float32Array, Int64Array


@dataclass(frozen=True)
class RandomWalk:
    """An item's score is the sum of the chances to reach it from each of the user's items, each to its likeliest only.

    The chance from an item to another: the sum over users of both of (users of the item * items of the user) **
    -exponent, divided by (users of the other) ** popularity_exponent.
    """

    neighbours: int = 500
    exponent: float = 0.6
    popularity_exponent: float = 0.3

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Find where a walk from each item leads; raise Refused as item KNN does."""
        chances = self.item_scores(interactions)
        return or_popular(lambda users: (interactions[users] @ chances).toarray(), interactions)

    def item_scores(self, interactions: csr_matrix) -> csr_matrix:
        """Return what each item of a user adds to every item's score, `[items, items]`; raise Refused as `fit`."""
        check_items(interactions, self.neighbours)
        counts = np.maximum(popularity(interactions), 1)
        start = counts ** np.float32(-self.exponent)
        end = counts ** np.float32(-self.popularity_exponent)

        def chance(item: Int64Array, other: Int64Array, common: Float32Array) -> Float32Array:
            return common * start[item] * end[other]

        return nearest(weighted_users(interactions, self.exponent), interactions, self.neighbours, chance)

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        return asdict(self)
