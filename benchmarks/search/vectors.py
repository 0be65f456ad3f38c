"""Made-up item vectors and queries on which indexes are compared: clusters of very unequal size, as catalogues have.

Unit centres (2,000 for a million items) with Zipf(1) sizes, isotropic noise of norm 0.7 around them, L2-normalised. A
query lies between two centres, `(1 - m) a + m b` with m uniform in [0, 0.5), with the same noise; the centre `a` is
drawn by cluster size. How hard a data set is decides every figure: at noise 1.4 the same IVF finds a quarter less.
A test of the serving environments imports this file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ensemble.serving.search.masks import ItemMask

K = 100
SELECTIVITIES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
"""Shares of the items that filters allow."""
NOISE = 0.7
CLUSTERS = 2000
_BLOCK = 65_536


class Data(NamedTuple):
    """Items and queries of one data set."""

    vectors: np.ndarray
    """float32 [items, d], of length 1."""
    queries: np.ndarray
    """float32 [queries, d], of length 1."""
    cluster: np.ndarray
    """int64 [items]: the cluster that each item was drawn from, 0 the largest."""


def make_vectors(items: int, queries: int, *, dim: int = 64, clusters: int = CLUSTERS) -> Data:
    """Draw a data set; the same arguments give the same arrays."""
    rng = np.random.default_rng(0)
    centres = _unit(rng.standard_normal((clusters, dim), dtype=np.float32))
    sizes = 1 / np.arange(1, clusters + 1)
    sizes /= sizes.sum()
    cluster = rng.choice(clusters, items, p=sizes)
    vectors = np.empty((items, dim), dtype=np.float32)
    for start in range(0, items, _BLOCK):  # the noise of all items at once would hold them twice
        part = cluster[start : start + _BLOCK]
        vectors[start : start + _BLOCK] = _noisy(centres[part], rng)
    mix = rng.uniform(0, 0.5, (queries, 1)).astype(np.float32)
    near, far = centres[rng.choice(clusters, queries, p=sizes)], centres[rng.integers(0, clusters, queries)]
    return Data(vectors, _noisy((1 - mix) * near + mix * far, rng), cluster)


def allowed_items(cluster: np.ndarray, selectivity: float, clustered: bool) -> np.ndarray:
    """Return a filter, bool [items], that allows about this share."""
    rng = np.random.default_rng(int(1 / selectivity))
    count = round(selectivity * len(cluster))
    if not clustered:
        bits = np.zeros(len(cluster), dtype=bool)
        bits[rng.choice(len(cluster), count, replace=False)] = True
        return bits
    sizes = np.bincount(cluster)
    order = rng.permutation(np.flatnonzero(sizes <= max(1.5 * count, sizes.min())))
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1]
    items = np.flatnonzero(np.isin(cluster, chosen))[:count]
    bits = np.zeros(len(cluster), dtype=bool)
    bits[items] = True
    return bits


def exact(data: Data, mask: ItemMask) -> list[np.ndarray]:
    """Return each query's best allowed items, by comparing all of them."""
    best: list[np.ndarray] = []
    allowed = data.vectors[mask.items].T
    for start in range(0, len(data.queries), 20):
        scores = data.queries[start : start + 20] @ allowed
        k = min(K, mask.count)
        best += [mask.items[row_scores.argpartition(mask.count - k)[mask.count - k :]] for row_scores in scores]
    return best


def recall(answers: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Return the mean share of the right items that were found."""
    return float(
        np.mean([len(np.intersect1d(left, right)) / len(right) for left, right in zip(answers, truth, strict=True)])
    )


def _noisy(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = np.float32(NOISE / np.sqrt(points.shape[1]))
    return _unit(points + scale * rng.standard_normal(points.shape, dtype=np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
