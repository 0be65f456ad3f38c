"""Exact search: the items with the largest inner product, some left out, in an order that only the scores decide.

Two ways lead to the same answer. A small catalogue is *scanned*: one matrix product, excluded items masked. A large one
is asked through FAISS for more items than wanted (*over-fetch*), as many more as a row excludes at most. Either way the
candidates' scores are then computed anew by a sum whose order does not depend on the batch (BLAS and FAISS pick their
kernels by batch size), and ties are broken by item index. So a row gets the same answer alone and among others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SCAN_ITEMS = 32_768
"""Catalogues up to this size are scanned: measured, 1,659 items take 38 microseconds a row with exclusions, by FAISS 32
without any and 70 when 400 more are fetched."""
_SPARE = 16
_BLOCK_FLOATS = 1 << 23
_Array = np.ndarray


class Found(NamedTuple):
    """The best items of every row, best first; past `count` the index is -1 and the score -inf."""

    item_index: np.ndarray
    """int64 [n, width], width = the largest k."""
    score: np.ndarray
    """float32 [n, width]."""
    count: np.ndarray  # type: ignore[assignment]  # the wire's word; `tuple.count` is not missed
    """int32 [n]: min(k, items that are not excluded)."""


class ItemSearch:
    """Search among item vectors by inner product."""

    def __init__(self, vectors: np.ndarray, index: Any | None = None) -> None:
        """Take the item vectors, float32 [items, d], and a FAISS index of the same; without it, every search scans."""
        self.vectors = vectors
        self._index = index
        self._transposed = vectors.T
        norm = float(np.sqrt(np.einsum("id,id->i", vectors, vectors).max(initial=0.0)))
        # Twice what two float32 sums of d products may differ by, per unit of the query's norm, in probability: the
        # error grows with the square root of d (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5)).
        self._slack = 8 * np.sqrt(vectors.shape[1]) * float(np.finfo(np.float32).eps) / 2 * norm

    def __call__(self, queries: np.ndarray, k: np.ndarray, rows: np.ndarray, items: np.ndarray) -> Found:
        """Return the `k` (int64 [n]) best items of every query, float32 [n, d].

        `rows` and `items`, int64 [m]: item `items[i]` is left out of row `rows[i]`'s answer; duplicates are welcome.
        """
        widest = int(k.max()) if len(k) else 0
        held = min(widest, len(self.vectors))
        fetch = held + _SPARE + (int(np.bincount(rows).max()) if len(rows) else 0)
        # Fetching a good part of the catalogue through FAISS's heaps costs more than comparing all of it.
        scan = self._index is None or len(self.vectors) <= SCAN_ITEMS or fetch > len(self.vectors) // 4
        step = max(1, _BLOCK_FLOATS // max(len(self.vectors) * scan, (held + _SPARE) * self.vectors.shape[1]))
        found = _empty(len(queries), widest)
        for start in range(0, len(queries), step):
            stop = start + step
            inside = (rows >= start) & (rows < stop) if len(queries) > step else np.ones(len(rows), dtype=bool)
            block = queries[start:stop], rows[inside] - start, items[inside]
            candidates, approximate = self._scan(held + _SPARE, *block) if scan else self._fetch(fetch, *block)
            best = self._best(held, candidates, approximate, *block)
            found.item_index[start:stop, :held], found.score[start:stop, :held] = best
        return _cut(found, k)

    def _best(
        self, held: int, candidates: _Array, approximate: _Array, queries: _Array, rows: _Array, items: _Array
    ) -> tuple[_Array, _Array]:
        index, score = self._rank(queries, candidates, approximate, held)
        if candidates.shape[1] < len(self.vectors):
            for row in self._undecided(queries, approximate, score):
                index[row], score[row] = self._settle(queries[row], score[row, -1], held, items[rows == row])
        return index, score

    def _scan(self, fetch: int, queries: _Array, rows: _Array, items: _Array) -> tuple[_Array, _Array]:
        """Return candidates [n, fetch] and their scores, all items compared, excluded ones at -inf."""
        scores = queries @ self._transposed
        if len(rows):
            scores[rows, items] = -np.inf
        total = scores.shape[1]
        if fetch >= total:
            return np.broadcast_to(np.arange(total), scores.shape), scores
        candidates = scores.argpartition(total - fetch, axis=1)[:, total - fetch :]
        return candidates, scores[np.arange(len(scores))[:, None], candidates]

    def _fetch(self, fetch: int, queries: _Array, rows: _Array, items: _Array) -> tuple[_Array, _Array]:
        """Return candidates [n, fetch] and their scores through FAISS, excluded ones at -inf."""
        assert self._index is not None
        scores, candidates = self._index.search(np.ascontiguousarray(queries), fetch)
        if len(rows):
            total = len(self.vectors)
            found = candidates + np.arange(len(queries))[:, None] * total
            scores[np.isin(found, rows * total + items)] = -np.inf
        return candidates, scores

    def _rank(self, queries: _Array, candidates: _Array, approximate: _Array, held: int) -> tuple[_Array, _Array]:
        """Return the `held` best candidates [n, held] and their scores: by score, then by item index."""
        scores = np.einsum("nkd,nd->nk", self.vectors[candidates], queries)
        scores[np.isneginf(approximate)] = -np.inf
        order = np.lexsort((candidates, -scores), axis=-1)[:, :held]
        line = np.arange(len(order))[:, None]
        return candidates[line, order], scores[line, order]

    def _undecided(self, queries: _Array, approximate: _Array, score: _Array) -> _Array:
        """Return the rows whose last place an item that is no candidate might deserve, by rounding or by a tie."""
        bound = np.where(np.isneginf(approximate), np.inf, approximate).min(axis=1)
        slack = self._slack * np.sqrt(np.einsum("nd,nd->n", queries, queries))
        # A last place of -inf: every item that is not excluded is a candidate already.
        return np.flatnonzero((bound + slack >= score[:, -1]) & np.isfinite(score[:, -1]))

    def _settle(self, query: _Array, last: np.float32, held: int, excluded: _Array) -> tuple[_Array, _Array]:
        """Return one row's answer from every item that is within rounding of its last place."""
        scores = self._transposed.T @ query
        scores[excluded] = -np.inf
        slack = self._slack * float(np.sqrt(query @ query))
        candidates = np.flatnonzero(scores >= last - slack)[None, :]
        if candidates.shape[1] < held:  # rounding beyond the bound, which is one of probability
            candidates = np.arange(len(scores))[None, :]
        index, score = self._rank(query[None, :], candidates, scores[candidates], held)
        return index[0], score[0]


def no_exclusions() -> tuple[np.ndarray, np.ndarray]:
    """Return the `rows` and `items` of a search that leaves nothing out."""
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


def _empty(rows: int, width: int) -> Found:
    index, score = np.full((rows, width), -1, dtype=np.int64), np.full((rows, width), -np.inf, dtype=np.float32)
    return Found(index, score, np.zeros(rows, dtype=np.int32))


def _cut(found: Found, k: np.ndarray) -> Found:
    """Empty the places past each row's k, and those of excluded items."""
    found.score[np.arange(found.score.shape[1])[None, :] >= k[:, None]] = -np.inf
    empty = np.isneginf(found.score)
    found.item_index[empty] = -1
    return found._replace(count=np.asarray(found.score.shape[1] - empty.sum(axis=1), dtype=np.int32))
