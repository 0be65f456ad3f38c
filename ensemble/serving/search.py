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


class _Candidates(NamedTuple):
    """The items among which the best of every row are."""

    items: np.ndarray
    """int64 [n, candidates], ascending."""
    excluded: np.ndarray | None
    """bool [n, candidates]; None: none is."""
    bound: np.ndarray | None
    """float32 [n]: no other item's score is above it, but for rounding; None: there is no other item."""


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
        widest, total = int(k.max()), len(self.vectors)
        held = min(widest, total)
        fetch = held + _SPARE
        scan = self._index is None or total <= SCAN_ITEMS
        if not scan:
            fetch += int(np.bincount(rows).max()) if len(rows) else 0
            # Fetching a good part of the catalogue through FAISS's heaps costs more than comparing all of it.
            scan = fetch > total // 4
        step = max(1, _BLOCK_FLOATS // max(total * scan, (held + _SPARE) * self.vectors.shape[1]))
        parts = []
        for start in range(0, len(queries), step):
            block = queries[start : start + step], rows, items
            if len(queries) > step:
                inside = (rows >= start) & (rows < start + step)
                block = queries[start : start + step], rows[inside] - start, items[inside]
            parts.append(self._best(held, self._scan(fetch, *block) if scan else self._fetch(fetch, *block), *block))
        index, score = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return _cut(_widened(index, widest, -1), _widened(score, widest, -np.inf), k)

    def _best(
        self, held: int, found: _Candidates, queries: _Array, rows: _Array, items: _Array
    ) -> tuple[_Array, _Array]:
        index, score = self._rank(queries, found.items, found.excluded, held)
        if found.bound is not None:
            # An item that is no candidate might deserve the last place, by rounding or by a tie. A last place of -inf
            # means that every item which is not excluded is a candidate already.
            slack = self._slack * np.sqrt(np.einsum("nd,nd->n", queries, queries))
            last = score[:, -1]
            for row in np.flatnonzero((found.bound + slack >= last) & (last > -np.inf)):
                index[row], score[row] = self._settle(queries[row], last[row], held, items[rows == row])
        return index, score

    def _scan(self, fetch: int, queries: _Array, rows: _Array, items: _Array) -> _Candidates:
        """Compare all items."""
        scores = queries @ self._transposed
        if len(rows):
            scores[rows, items] = -np.inf
        total = scores.shape[1]
        if fetch >= total:
            return _Candidates(np.arange(total)[None, :].repeat(len(scores), axis=0), scores == -np.inf, None)
        candidates = scores.argpartition(total - fetch, axis=1)[:, total - fetch :]
        line = np.arange(len(scores))[:, None]
        bound = scores[line[:, 0], candidates[:, 0]]  # the partition's own place: the smallest of them
        candidates.sort(axis=1)
        return _Candidates(candidates, scores[line, candidates] == -np.inf if len(rows) else None, bound)

    def _fetch(self, fetch: int, queries: _Array, rows: _Array, items: _Array) -> _Candidates:
        """Ask FAISS, which returns the best first."""
        assert self._index is not None
        scores, candidates = self._index.search(np.ascontiguousarray(queries), fetch)
        bound = scores[:, -1]
        candidates.sort(axis=1)
        if not len(rows):
            return _Candidates(candidates, None, bound)
        total = len(self.vectors)
        excluded = np.isin(candidates + np.arange(len(queries))[:, None] * total, rows * total + items)
        return _Candidates(candidates, excluded, bound)

    def _rank(self, queries: _Array, candidates: _Array, excluded: _Array | None, held: int) -> tuple[_Array, _Array]:
        """Return the `held` best candidates [n, held] and their scores: by score, then by item index."""
        scores = np.einsum("nkd,nd->nk", self.vectors[candidates], queries)
        if excluded is not None:
            scores[excluded] = -np.inf
        order = (-scores).argsort(axis=1, kind="stable")[:, :held]  # stable, and the candidates ascend
        line = np.arange(len(order))[:, None]
        return candidates[line, order], scores[line, order]

    def _settle(self, query: _Array, last: np.float32, held: int, excluded: _Array) -> tuple[_Array, _Array]:
        """Return one row's answer from every item that is within rounding of its last place."""
        scores = self.vectors @ query
        scores[excluded] = -np.inf
        slack = self._slack * float(np.sqrt(query @ query))
        candidates = np.flatnonzero(scores >= last - slack)[None, :]
        if candidates.shape[1] < held:  # rounding beyond the bound, which is one of probability
            candidates = np.arange(len(scores))[None, :]
        index, score = self._rank(query[None, :], candidates, scores[candidates] == -np.inf, held)
        return index[0], score[0]


def no_exclusions() -> tuple[np.ndarray, np.ndarray]:
    """Return the `rows` and `items` of a search that leaves nothing out."""
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


def _widened(array: _Array, width: int, blank: float) -> _Array:
    if array.shape[1] == width:
        return array
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=blank)


def _cut(index: _Array, score: _Array, k: _Array) -> Found:
    """Empty the places past each row's k, and those of excluded items."""
    width = score.shape[1]
    if int(k.min()) < width:
        score[np.arange(width)[None, :] >= k[:, None]] = -np.inf
    empty = score == -np.inf
    index[empty] = -1
    return Found(index, score, (width - empty.sum(axis=1)).astype(np.int32))
