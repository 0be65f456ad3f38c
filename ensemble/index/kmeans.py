"""k-means for inverted lists: few iterations on a sample, every step one matrix product."""

from __future__ import annotations

import numpy as np

from ensemble.serving.index.vectors import normalised

POINTS_PER_CENTROID = 40
ITERATIONS = 8
_BLOCK = 1024
_Array = np.ndarray


def centroids(vectors: _Array, count: int, *, spherical: bool, seed: int = 0) -> _Array:
    """Return `count` centroids, float32 [count, d], of vectors, float32 [n, d], by Lloyd's iterations on a sample.

    `spherical`: centroids of length 1, assigned by inner product (Dhillon and Modha 2001, Machine Learning 42). An
    empty centroid is moved next to the largest one.
    """
    rng = np.random.default_rng(seed)
    size = min(len(vectors), count * POINTS_PER_CENTROID)
    sample = np.ascontiguousarray(vectors[np.sort(rng.choice(len(vectors), size, replace=False))])
    centres = sample[rng.choice(size, count, replace=False)]
    for _ in range(ITERATIONS):
        if spherical:
            centres = normalised(centres)
        centres = _means(sample, assign(sample, centres, spherical=spherical), centres, rng)
    return normalised(centres) if spherical else centres


def assign(vectors: _Array, centres: _Array, *, spherical: bool) -> _Array:
    """Return the nearest centroid of every vector, int64 [n], by largest inner product or least distance."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    transposed = np.ascontiguousarray(centres.T)
    bias = None if spherical else (np.einsum("cd,cd->c", centres, centres) / 2).astype(np.float32)
    for start in range(0, len(vectors), _BLOCK):
        scores = vectors[start : start + _BLOCK] @ transposed
        if bias is not None:
            scores -= bias
        nearest[start : start + _BLOCK] = scores.argmax(axis=1)
    return nearest


def _means(sample: _Array, nearest: _Array, centres: _Array, rng: np.random.Generator) -> _Array:
    counts = np.bincount(nearest, minlength=len(centres))
    order = np.argsort(nearest, kind="stable")
    not_empty = np.flatnonzero(counts)
    starts = np.cumsum(counts)[not_empty] - counts[not_empty]
    means = centres.copy()
    means[not_empty] = np.add.reduceat(sample[order], starts, axis=0) / counts[not_empty, None]
    empty = np.flatnonzero(counts == 0)
    largest = np.argsort(-counts, kind="stable")[: len(empty)]
    noise = rng.standard_normal((len(empty), sample.shape[1]), dtype=np.float32)
    means[empty] = means[largest] + 1e-3 * np.linalg.norm(means[largest], axis=1, keepdims=True) * noise
    return means
