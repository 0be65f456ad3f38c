"""Scores of items for queries: quick ones for many items, exact ones for a few, independent of the batch."""

from __future__ import annotations

from copy import copy

import numpy as np

from ..errors import InvalidRelease, InvalidRequest
from ..files.release import Sealed
from ..files.schema import METRICS

LONGEST = 2.0**62
"""The longest vector: the score of two such is finite in float32."""
_BLOCK_ITEMS = 4096
"""Rows gathered at a time: as many as stay in the cache until they are multiplied. Twice as fast as all at once."""
_COPIED_FLOATS = 1 << 21
"""Catalogues up to this size (8 MB) are kept transposed, too: BLAS then reads them as they lie, and does not pack them
again for every batch; three to five times as fast for 2 to 8 queries."""
_EXACT_FLOATS = 1 << 17
"""Numbers of candidates that are scored exactly at a time: in float64 a megabyte, which stays in the cache."""
_Array = np.ndarray


class Scoring:
    """Scores of item vectors for one metric.

    `quick` scores are q.x, for l2 q.x - x.x / 2, which order the items of a query correctly. `exact` scores are q.x,
    for cosine the cosine, for l2 -|q - x|^2, each summed in float64 and in a fixed order, while BLAS chooses its kernel
    by the size of the batch: every processor and every runtime gets the same.
    """

    def __init__(self, vectors: _Array, metric: str) -> None:
        """Take float32 [items, d]; raise ValueError for an unknown metric."""
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
        squares = np.einsum("id,id->i", vectors, vectors)
        self._as_given = True
        if metric == "cosine" and not np.allclose(squares, 1, rtol=0, atol=1e-4):
            self._as_given = False
            vectors = vectors / np.sqrt(np.where(squares > 0, squares, 1))[:, None]
            squares = np.einsum("id,id->i", vectors, vectors)
        self.vectors, self.metric = vectors, metric
        self._transposed = _transposed(vectors)
        self._bias = -squares / 2 if metric == "l2" else None
        self._longest = float(np.sqrt(squares.max(initial=0.0)))
        # Twice what two float32 sums of d products may differ by, in probability: the error grows with the square root
        # of d (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5)).
        self._error = 8 * np.sqrt(vectors.shape[1]) * float(np.finfo(np.float32).eps) / 2

    def extended(self, vectors: _Array) -> Scoring:
        """Return the scoring of `vectors`, float32 [items, d], which begin with those of this one.

        The cost is that of the new vectors, except for cosine if vectors are not of length 1.
        """
        known = len(self.vectors)
        more = vectors[known:]
        squares = np.einsum("id,id->i", more, more)
        if self.metric == "cosine" and not (self._as_given and np.allclose(squares, 1, rtol=0, atol=1e-4)):
            return Scoring(vectors, self.metric)
        grown = copy(self)
        grown.vectors, grown._transposed = vectors, _transposed(vectors)
        grown._bias = None if self._bias is None else np.append(self._bias, -squares / 2)
        grown._longest = max(self._longest, float(np.sqrt(squares.max(initial=0.0))))
        return grown

    def prepared(self, queries: _Array) -> _Array:
        """Return the queries, float32 [n, d], in the form that the metric needs."""
        if self.metric != "cosine":
            return queries
        length = np.sqrt(np.einsum("nd,nd->n", queries, queries, dtype=np.float64))
        return (queries / np.where(length > 0, length, 1)[:, None]).astype(np.float32)

    def quick(self, queries: _Array, items: _Array | None = None) -> _Array:
        """Return the quick scores [n, items], or [n, m] of `items`, int64 [m]."""
        if items is None:
            scores = queries @ self._transposed
            return scores if self._bias is None else np.add(scores, self._bias, out=scores)
        scores = np.empty((len(queries), len(items)), dtype=np.float32)
        buffer = np.empty((min(_BLOCK_ITEMS, len(items)), self.vectors.shape[1]), dtype=np.float32)
        for start in range(0, len(items), _BLOCK_ITEMS):
            block = items[start : start + _BLOCK_ITEMS]
            part = buffer[: len(block)]
            self.vectors.take(block, axis=0, out=part, mode="clip")  # "raise" would take a copy first
            np.matmul(queries, part.T, out=scores[:, start : start + len(block)])
        return scores if self._bias is None else np.add(scores, self._bias[items], out=scores)

    def exact(self, queries: _Array, candidates: _Array) -> _Array:
        """Return the exact scores, float32 [n, m], of each query's own candidates, int64 [n, m]."""
        step = max(1, _EXACT_FLOATS // max(1, candidates.shape[1] * self.vectors.shape[1]))
        if len(queries) <= step:
            return self._exact(queries, candidates)
        starts = range(0, len(queries), step)
        blocks = [self._exact(queries[start : start + step], candidates[start : start + step]) for start in starts]
        return np.concatenate(blocks)

    def _exact(self, queries: _Array, candidates: _Array) -> _Array:
        vectors = self.vectors.take(candidates, axis=0, mode="clip")  # half the time of an index; -1 is ruled out after
        vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
        if self.metric != "l2":
            return np.einsum("nkd,nd->nk", vectors, queries).astype(np.float32)
        vectors -= queries[:, None, :]
        return -np.einsum("nkd,nkd->nk", vectors, vectors).astype(np.float32)

    def as_quick(self, exact: _Array, queries: _Array) -> _Array:
        """Convert exact scores, one per query, to the scale of the quick ones."""
        return exact if self.metric != "l2" else (exact + np.einsum("nd,nd->n", queries, queries)) / 2

    def slack(self, queries: _Array) -> _Array:
        """Return the maximum difference between quick and exact scores of each query, float32 [n]."""
        if len(queries) == 1:
            length = np.sqrt(queries[0] @ queries[0])[None]
        else:
            length = np.sqrt(np.einsum("nd,nd->n", queries, queries))
        scale = length * self._longest
        return self._error * (scale if self.metric != "l2" else scale + length**2 + self._longest**2)


def scorable(vectors: _Array) -> _Array:
    """Return which of float32 [n, d] have finite scores, bool [n]: no NaN, and not longer than `LONGEST`."""
    within: _Array = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64) <= LONGEST**2
    return within


def read_vectors(release: Sealed, items: int, dim: int) -> _Array:
    """Return the vectors of `items` items, float32 [items, dim]; raise InvalidRelease if they cannot be scored."""
    place, vectors = release.path / "items/vectors.npy", release.array("items/vectors.npy", np.float32, dimensions=2)
    if vectors.shape != (items, dim):
        raise InvalidRelease(f"{place}: {vectors.dtype} {vectors.shape}, expected float32 {(items, dim)}")
    if not scorable(vectors).all():
        raise InvalidRelease(f"{place}: holds a vector that is not finite, or longer than {LONGEST:.1g}")
    return vectors


def check_queries(queries: _Array) -> None:
    """Raise InvalidRequest, naming the row, for a query vector, float32 [n, d], with scores that may not be finite."""
    flat = queries.ravel()
    # One call in place of two; only a sum of squares that is too large for one vector is looked at.
    if flat.dot(flat) <= LONGEST**2 or (within := scorable(queries)).all():
        return
    raise InvalidRequest(f"row {int(within.argmin())}: the query has no finite vector; a number in it is too large")


def _transposed(vectors: _Array) -> _Array:
    return np.ascontiguousarray(vectors.T) if vectors.size <= _COPIED_FLOATS else vectors.T
