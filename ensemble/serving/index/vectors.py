"""Vectors with length 1, and exact scores of candidates."""

from __future__ import annotations

import numpy as np

_Array = np.ndarray


def normalised(vectors: _Array) -> _Array:
    """Return the vectors, float32 [items, d], with length 1; zeros stay."""
    length = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    return vectors / np.where(length > 0, length, np.float32(1))[:, None]


def scores(vectors: _Array, queries: _Array, rows: _Array, metric: str) -> _Array:
    """Return the exact scores, float32 [n, m], of `rows`, int64 [n, m]; -inf where the row is -1."""
    held = vectors[rows]
    scored = np.einsum("nkd,nd->nk", held, queries)
    if metric != "inner_product":
        squares = np.einsum("nkd,nkd->nk", held, held)
        if metric == "l2":
            scored -= 0.5 * squares
        else:
            scored /= np.sqrt(np.where(squares > 0, squares, 1))
    scored[rows < 0] = -np.inf
    return scored
