"""Who is answered with what: the answers to many users, asked once and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ensemble.batch.everybody import Asking, batches
from retrieval.explore.loaded.background import Background

if TYPE_CHECKING:
    from retrieval.explore.loaded.explored import Explored

USERS, TOP_K = 5_000, 10


class Exposure(Background[np.ndarray]):
    """The first TOP_K items of USERS users, drawn evenly, or of all if they are fewer; asked for in the background."""

    def __init__(self, explored: Explored) -> None:
        self._explored, users = explored, len(explored.user_ids)
        self.rows = np.unique(np.linspace(0, users - 1, min(USERS, users)).astype(np.int64))
        """Which users are asked, int64 [n]."""
        super().__init__(self._ask)

    @property
    def answers(self) -> np.ndarray:
        """Return the rows of the items, int64 [n, TOP_K], -1 past the last; waits for them."""
        return self.result

    def counts(self) -> np.ndarray:
        """Return how many of the users have each item, int64 [items]."""
        answered = self.answers[self.answers >= 0]
        return np.bincount(answered, minlength=len(self._explored.items))

    def users_of(self, item: int) -> list[tuple[int, int]]:
        """Return the rows of users who are answered with an item, and where it stands, from 1."""
        users, places = np.nonzero(self.answers == item)
        order = np.argsort(places, kind="stable")
        return list(zip(self.rows[users[order]].tolist(), (places[order] + 1).tolist(), strict=True))

    def _ask(self) -> np.ndarray:
        parts = [np.zeros((0, TOP_K), np.int64)]
        top_k = min(TOP_K, self._explored.retriever.serving["max_top_k"])
        for ids in batches(self._explored.user_ids[self.rows]):
            with self._explored.lock:
                answered = self._explored.everybody.answer(ids, Asking(top_k=top_k)).item_index
            parts.append(np.pad(answered, ((0, 0), (0, TOP_K - answered.shape[1])), constant_values=-1))
        return np.concatenate(parts)
