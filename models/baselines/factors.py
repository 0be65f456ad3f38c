"""Peers as products of two matrices, and several of them as factors of users and items."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, issparse

from models.baselines.als import Als
from models.baselines.baseline import Refused
from models.baselines.ease import MOST_ITEMS, Ease
from models.baselines.item_knn import ItemKnn, RecentItemKnn
from models.baselines.random_walk import RandomWalk
from models.baselines.subspace import right_vectors
from models.baselines.svd import Svd
from models.metrics import Float32Array, Int64Array

Blended = Ease | ItemKnn | RandomWalk | Svd | Als
"""A peer that can be written as a product."""
KINDS: Final[dict[str, Sequence[Blended]]] = {
    "item KNN": [
        ItemKnn(neighbours, shrinkage, exponent)
        for neighbours, shrinkage, exponent in ((200, 10, 0.5), (500, 3, 0.5), (100, 10, 0), (200, 10, 0.75))
    ],
    "recent item KNN": [RecentItemKnn(200, 10, 0.5, decay) for decay in (0.8, 0.9, 0.6)],
    "random walk": [
        RandomWalk(*settings) for settings in ((1000, 0.6, 0.3), (500, 0.4, 0.2), (500, 0.4, 0.4), (100, 0.6, 0.2))
    ],
    "SVD": [Svd(factors) for factors in (1024, 512, 256, 128, 64, 32)],
    "EASE": [Ease(l2) for l2 in (200, 50, 500, 20, 1000)],
    "ALS": [
        Als(512, 100, 40, 0.5),
        Als(256, 100, 40, 0.5),
        Als(128, 200, 80, 0.5),
        Als(256, 30, 10),
        Als(128, 30, 10, 0.25),
        Als(64, 100, 20, 0.5),
    ],
}
"""Names, and the settings that are tried for each, the likeliest first; they do not depend on the machine's speed."""
MANY: Final = 300_000
"""Interactions beyond which only the first two settings of each kind are tried."""
KEPT: Final = 3
"""So many of each kind, the best ones alone, may be blended: ALS of 256 factors and of 64 err on different rows."""
_SAMPLED_USERS: Final = 1000
FIRST: Final = 100
"""Items that a user is answered first, whose scores factors of too small a rank keep rather than the others'."""
_EMPHASIS: Final = 100.0
"""How much the square of an error counts there, against 1 elsewhere."""
_MOST_PAIRS: Final = 1 << 32
"""Users x items: beyond, it takes too long to look at every user's scores."""
_AT_ONCE: Final = 256


def tried(kind: str, interactions: int, rank: int) -> Sequence[Blended]:
    """Return the settings of a kind that are tried on so many interactions; none has more factors than `rank`."""
    peers = dict.fromkeys(_narrowed(peer, rank) for peer in KINDS[kind])
    return list(peers)[: 2 if interactions >= MANY else None]


def _narrowed(peer: Blended, rank: int) -> Blended:
    return replace(peer, factors=min(peer.factors, rank)) if isinstance(peer, Svd | Als) else peer


class Product(NamedTuple):
    """Scores as `left @ right`, with a standard deviation of 1: users x items are never held."""

    left: csr_matrix | Float32Array
    """Float32 `[users, inner]`, where a user without interactions has zeros."""
    right: csr_matrix | Float32Array
    """Float32 `[inner, items]`."""

    def scores(self, users: Int64Array, items: Int64Array) -> Float32Array:
        """Return the scores of some users for some items, float32 `[users, items]`."""
        scores = np.empty((len(users), len(items)), np.float32)
        for start in range(0, len(users), _AT_ONCE):  # a sparse product takes several times as much until it is dense
            some = slice(start, start + _AT_ONCE)
            np.take(_dense(self.left[users[some]] @ self.right), items, axis=1, out=scores[some], mode="clip")
        return scores


class Factors(NamedTuple):
    """A matrix of scores as an inner product."""

    users: Float32Array
    """Float32 `[users, rank]`; who has no interaction has the mean of the others', which ranks popular items first."""
    items: Float32Array
    """Float32 `[items, rank]`."""


def product_of(peer: Blended, interactions: csr_matrix, later: csr_matrix | None = None) -> Product:
    """Fit a peer and return its scores for users with interactions.

    Raises
    ------
    Refused
        The peer cannot be fitted here.
    """
    left, right = _sides(peer, interactions, later)
    known = np.flatnonzero(np.diff(interactions.indptr))
    some = known[:: max(1, len(known) // _SAMPLED_USERS)]
    deviation = float(_dense(left[some] @ right).std()) or 1.0
    return Product(left, (right / deviation).astype(np.float32, copy=False))  # SciPy's quotient is float64


def factors_of(products: Sequence[tuple[float, Product]], interactions: csr_matrix, rank: int) -> Factors:
    """Return a weighted sum of scores as factors of at most this rank.

    They are exact, and no wider than that takes, where the models' own factors are together no wider than `rank`, or
    where there are no more users or items. Else the
    items have the sum's first right singular vectors, and each user what comes closest to its scores, above all to
    those of the items that it is answered first: projected on so few vectors, rare items would fall behind.
    """
    known = np.diff(interactions.indptr) > 0
    users, items = _joined(products, min(rank, *interactions.shape)) or _projected(products, interactions, rank)
    users = np.where(known[:, np.newaxis], users, users[known].mean(axis=0))
    return Factors(users.astype(np.float32), items.astype(np.float32))


def _sides(
    peer: Blended, interactions: csr_matrix, later: csr_matrix | None
) -> tuple[csr_matrix | Float32Array, csr_matrix | Float32Array]:
    if isinstance(peer, ItemKnn):
        return peer.profiles(interactions, later), peer.item_scores(interactions)
    if isinstance(peer, RandomWalk):
        return interactions, peer.item_scores(interactions)
    if isinstance(peer, Ease):
        if interactions.shape[1] > MOST_ITEMS:
            raise Refused(f"it is fitted to all pairs of items in minutes for at most {MOST_ITEMS:,}")
        return interactions, peer.weights(interactions)
    users, items = peer.vectors(interactions)
    return users * (np.diff(interactions.indptr) > 0)[:, np.newaxis], items.T


def _joined(products: Sequence[tuple[float, Product]], rank: int) -> tuple[Float32Array, Float32Array] | None:
    """Return the models' own factors side by side, where they have some and these are together no wider than `rank`."""
    if any(issparse(left) for _, (left, _) in products) or sum(left.shape[1] for _, (left, _) in products) > rank:
        return None
    users = np.concatenate([weight * left for weight, (left, _) in products], axis=1)
    return users, np.concatenate([right.T for _, (_, right) in products], axis=1)


def _projected(
    products: Sequence[tuple[float, Product]], interactions: csr_matrix, rank: int
) -> tuple[Float32Array, Float32Array]:
    turned = [(weight, _transposed(left), _transposed(right)) for weight, (left, right) in products]

    def times(values: Float32Array) -> Float32Array:
        return np.sum([weight * _times(left, _times(right, values)) for weight, (left, right) in products], axis=0)

    def transposed_times(values: Float32Array) -> Float32Array:
        return np.sum([weight * _times(right, _times(left, values)) for weight, left, right in turned], axis=0)

    shape = interactions.shape
    if rank < min(shape):
        dense = [weight * right.T for weight, (left, right) in products if not issparse(left)]
        vectors = right_vectors(times, transposed_times, shape, rank, np.hstack(dense) if dense else None)
        users = times(vectors)
        if shape[0] * shape[1] <= _MOST_PAIRS:
            _emphasise(users, vectors, products, interactions)
        return users, vectors
    if shape[1] <= shape[0]:
        vectors = np.eye(shape[1], dtype=np.float32)
    else:
        vectors = np.linalg.qr(transposed_times(np.eye(shape[0], dtype=np.float32)))[0]
    return times(vectors), vectors


def _emphasise(
    users: Float32Array, items: Float32Array, products: Sequence[tuple[float, Product]], interactions: csr_matrix
) -> None:
    """Move each user's projection to its least squares solution where errors at its first unseen items count more.

    Items are orthonormal, so that this takes a system of FIRST equations for each user (Woodbury's identity).
    """
    every, count = np.arange(len(items)), min(FIRST, len(items))
    for start in range(0, len(users), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(users)))
        scores = np.sum([weight * product.scores(some, every) for weight, product in products], axis=0)
        unseen = scores.copy()
        unseen[interactions[some].nonzero()] = -np.inf
        first = np.argpartition(unseen, -count, axis=1)[:, -count:]
        vectors = items[first]
        missing = np.take_along_axis(scores, first, axis=1)[..., np.newaxis] - vectors @ users[some][..., np.newaxis]
        inner = vectors @ vectors.transpose(0, 2, 1) + np.eye(count, dtype=np.float32) / np.float32(_EMPHASIS)
        users[some] += (vectors.transpose(0, 2, 1) @ np.linalg.solve(inner, missing))[..., 0]


def _times(matrix: csr_matrix | Float32Array, values: Float32Array) -> Float32Array:
    """Return `matrix @ values`; SciPy multiplies a sparse matrix on one thread, so that each gets some of its rows."""
    if not issparse(matrix):
        return matrix @ values
    with ThreadPoolExecutor() as pool:
        parts = np.array_split(np.arange(matrix.shape[0]), os.cpu_count() or 1)
        return np.concatenate(list(pool.map(lambda rows: matrix[rows] @ values, parts)))


def _transposed(matrix: csr_matrix | Float32Array) -> csr_matrix | Float32Array:
    return csr_matrix(matrix.T) if issparse(matrix) else matrix.T


def _dense(values: Any) -> Float32Array:
    return np.asarray(values.toarray() if issparse(values) else values)
