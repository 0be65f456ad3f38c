"""What simple models would answer: popularity and item KNN, fitted to the release's histories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.serving.files.parameters import read_json
from retrieval.explore.loaded.background import Background
from workflows.errors import RetrievalError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from retrieval.explore.loaded.explored import Explored

POPULARITY, KNN = "popularity", "item KNN"
MOST_PAIRS = 2_000_000_000
"""Of items that one user had, counted over all users: what fitting item KNN takes time and memory for."""


class Peers(Background["csr_matrix"]):
    """Both models of a run; item KNN is fitted in the background."""

    def __init__(self, explored: Explored) -> None:
        self._explored = explored
        self.popularity: np.ndarray = np.bincount(explored.history_items, minlength=len(explored.items)).astype(
            np.float32
        )
        super().__init__(self._fit)

    def best(self, profile: np.ndarray, left_out: np.ndarray, allowed: np.ndarray | None, k: int) -> dict[str, Any]:
        """Return each model's best items for a user with the items `profile`, rows of the catalogue best first.

        In place of the rows stands a text where there are none yet. `left_out`, int64 [m], are not answered;
        `allowed` is bool [items].
        """
        return {
            POPULARITY: self._top(self.popularity, left_out, allowed, k),
            KNN: self._neighbours(profile, left_out, allowed, k),
        }

    def _neighbours(self, profile: np.ndarray, left_out: np.ndarray, allowed: np.ndarray | None, k: int) -> Any:
        if not self.ready:
            return "being fitted"
        if self.problem:
            return self.problem
        if not len(profile):
            return self._top(self.popularity, left_out, allowed, k)
        scores = np.asarray(self.result[np.unique(profile)].sum(axis=0), np.float32).ravel()
        return self._top(scores, left_out, allowed, k)

    def _top(self, scores: np.ndarray, left_out: np.ndarray, allowed: np.ndarray | None, k: int) -> list[int]:
        able = self._explored.items.live.copy()
        able[left_out] = False
        if allowed is not None:
            able &= allowed
        scores = np.where(able, scores, -np.inf)
        order = np.argsort(-scores, kind="stable")[:k]
        return order[scores[order] > 0].tolist()

    def _fit(self) -> csr_matrix:
        from scipy.sparse import csr_matrix

        from models.baselines.item_knn import ItemKnn
        from models.baselines.search import FAMILIES

        offsets = self._explored.offsets
        if (pairs := float((np.diff(offsets).astype(float) ** 2).sum())) > MOST_PAIRS:
            raise RetrievalError(f"left out: {pairs:.1e} pairs of items, of at most {MOST_PAIRS:.0e}")
        items = np.array(self._explored.history_items)  # a copy: those of the release cannot be sorted
        shape = len(offsets) - 1, len(self._explored.items)
        matrix = csr_matrix((np.ones(len(items), np.float32), items, offsets), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        chosen = _settings(self._explored.place / "peers" / "peers.json", FAMILIES["knn"].title)
        return ItemKnn(**chosen).item_scores(matrix)


def _settings(path: Path, title: str) -> dict[str, Any]:
    """Return the settings that the run found best; none where it compared with no such model."""
    listed = read_json(path) if path.is_file() else []
    return next((dict(peer["settings"]) for peer in listed if peer["name"] == title and "settings" in peer), {})
