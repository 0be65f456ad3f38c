"""Peers as factors of users and items, whose inner product is their score: what towers can have beside their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.als import Als
from models.baselines.ease import Ease
from models.baselines.item_knn import ItemKnn
from models.metrics import Float32Array

_OVERSAMPLED, _ITERATIONS = 16, 4

KINDS: Final[dict[str, Sequence[Ease | ItemKnn | Als]]] = {
    "EASE": [Ease(l2) for l2 in (200, 50, 500, 20, 1000)],
    "item KNN": [ItemKnn(neighbours, shrinkage) for neighbours, shrinkage in ((100, 10), (200, 10), (50, 50), (50, 3))],
    "ALS": [
        Als(factors, regularization, alpha)
        for factors, regularization, alpha in ((64, 30, 10), (256, 100, 20), (128, 30, 5), (32, 10, 5), (64, 10, 1))
    ],
}
"""Names, and the settings that are tried for each, the likeliest first; they do not depend on the machine's speed."""


class Factors(NamedTuple):
    """A matrix of scores as a product."""

    users: Float32Array
    """Float32 `[users, rank]`; who has no interaction has the mean of the others', which ranks popular items first."""
    items: Float32Array
    """Float32 `[items, rank]`."""


def factors_of(peer: Ease | ItemKnn | Als, interactions: csr_matrix, rank: int) -> Factors:
    """Fit a peer and return its scores as factors of at most this rank.

    Those of EASE and KNN are the interactions X times a matrix of items B; XB is projected on its first right singular
    vectors, without ever being held.

    Raises
    ------
    Refused
        The peer cannot be fitted here.
    """
    if isinstance(peer, Als):
        users, items = peer.vectors(interactions)
    else:
        between = peer.weights(interactions) if isinstance(peer, Ease) else peer.similarities(interactions).T.tocsr()
        items = _right_vectors(interactions, between, min(rank, *interactions.shape))
        users = interactions @ np.asarray(between @ items, np.float32)
    known = np.diff(interactions.indptr) > 0
    users = np.where(known[:, np.newaxis], users, users[known].mean(axis=0))
    scale = _deviation(users[known], items)
    return Factors((users / scale).astype(np.float32), items.astype(np.float32))


def _right_vectors(interactions: csr_matrix, between: Float32Array | csr_matrix, rank: int) -> Float32Array:
    """Return the first right singular vectors of `interactions @ between`, float32 `[items, rank]`.

    By randomised subspace iteration (Halko, Martinsson and Tropp 2011).
    """
    width = min(rank + _OVERSAMPLED, *interactions.shape)
    found = np.random.default_rng(0).standard_normal((interactions.shape[1], width)).astype(np.float32)
    for _ in range(_ITERATIONS):
        found = np.linalg.qr(between.T @ (interactions.T @ (interactions @ (between @ found))))[0]
    _, _, right = np.linalg.svd(interactions @ (between @ found), full_matrices=False)
    return np.asarray((found @ right.T)[:, :rank], np.float32)


def _deviation(users: Float32Array, items: Float32Array) -> float:
    """Return the standard deviation of the scores of at most 1,000 users, or 1 where all are the same."""
    scores = users[:: max(1, len(users) // 1000)] @ items.T
    return float(scores.std()) or 1.0
