"""What the towers retrieve for rows: the candidates that a ranker is trained and measured on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.metrics import Float32Array, Int64Array, SeenItems, answerable, top_items

_SCORES_AT_ONCE = 1 << 22
Int32Array = npt.NDArray[np.int32]


class Retrieval(NamedTuple):
    """The towers' vectors: of rows' queries and of every item."""

    queries: Float32Array
    """`[rows, d]`"""
    items: Float32Array
    """`[items, d]`"""

    def candidates(self, count: int, users: Int64Array, seen: SeenItems | None) -> Int32Array:
        """Return the `count` best items of every row, best first, int32 `[rows, count]`; -1 where it has no more.

        Items that the row's user, a row of `seen`, has there are left out; None: none are.
        """
        retrieved = np.full((len(self.queries), count), -1, np.int32)
        for rows in self._blocks():
            scores = answerable(self.queries[rows] @ self.items.T)
            if seen is not None:
                scores[seen.pairs(users[rows])] = -np.inf
            best, score = top_items(scores, min(count, len(self.items)))
            retrieved[rows, : best.shape[1]] = np.where(np.isneginf(score), -1, best)
        return retrieved

    def _blocks(self) -> Iterator[slice]:
        step = max(1, _SCORES_AT_ONCE // len(self.items))
        return (slice(start, start + step) for start in range(0, len(self.queries), step))
