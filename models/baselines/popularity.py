"""The most popular items for everybody."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.sparse import csr_matrix

from models.baselines.baseline import SameForAll, Scores, popularity


@dataclass(frozen=True)
class Popularity:
    """Items ordered by their number of users."""

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Count."""
        return SameForAll(popularity(interactions))

    def settings(self) -> dict[str, float]:
        """There are none."""
        return {}
