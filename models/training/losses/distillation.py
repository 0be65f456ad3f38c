"""What trained towers and peers think of every item, as part of the labels of the towers trained next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix

from models import config
from models.baselines.als import Als
from models.baselines.baseline import Peer, Refused, check_memory
from models.baselines.ease import Ease
from models.config import Distillation
from models.metrics import Float32Array
from models.towers.two_tower import TwoTowerModel
from models.training.early_stopping import encode_items
from models.training.losses.objective import Labels, Teacher
from models.training.weights.finite import is_finite
from workflows.errors import RecipeError, StageError

LEAST_SCORE = 0.01
"""Of a peer: those of EASE and ALS may be negative."""


class TowersTeacher:
    """Trained towers: the mean of their logits, whose softmax is the geometric mean of theirs.

    Parameters
    ----------
    towers
        At least one.

    Raises
    ------
    StageError
        A vector of an item is not finite.
    """

    def __init__(self, towers: Sequence[TwoTowerModel]) -> None:
        self._towers = [(tower, float(tower.temperature) * len(towers)) for tower in towers]
        # Side by side, so that one inner product is the sum of theirs.
        self._items = tf.concat([encode_items(tower) for tower in towers], axis=1)
        if not is_finite(self._items):
            raise StageError("[train.distillation] the teachers' vectors are not finite: their training diverged")

    def query_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the vectors of queries, nothing of which is dropped, float32 `[n, t]`; no gradient reaches them."""
        vectors = [tower.query_vectors(features) / divisor for tower, divisor in self._towers]
        return tf.stop_gradient(tf.concat(vectors, axis=1))

    def logits(self, labels: Labels, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the logits of these items (int64 `[c]`), or of all, for a batch of rows; float32 `[n, c]`."""
        vectors = self._items if items is None else tf.gather(self._items, items)
        return tf.matmul(labels.taught, vectors, transpose_b=True)


class PeersTeacher:
    """Peers, fitted on the rows to be trained on: the mean logarithm of their scores, all users' times all items'.

    Parameters
    ----------
    settings
        Which peers.
    interactions
        What users have in the rows trained on, `[users, items]`; users have the numbers of `Labels`.

    Raises
    ------
    RecipeError
        There are too many of them, or a library is missing.
    """

    def __init__(self, settings: Distillation, interactions: csr_matrix) -> None:
        self._logits = tf.constant(_peers_logits(settings, interactions))

    def query_vectors(self, features: Mapping[str, tf.Tensor]) -> None:
        """Return none: users are known by their numbers."""

    def logits(self, labels: Labels, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the logits of these items (int64 `[c]`), or of all, for a batch of rows; float32 `[n, c]`."""
        every = tf.gather(self._logits, labels.users)
        return every if items is None else tf.gather(every, items, axis=1)


class Product:
    """Several teachers: the sum of their logits, whose softmax is the product of theirs. One of them may be towers."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self._teachers = teachers

    def query_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Return those of the one teacher that has some, float32 `[n, t]`."""
        return next((of for of in (each.query_vectors(features) for each in self._teachers) if of is not None), None)

    def logits(self, labels: Labels, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the logits of these items (int64 `[c]`), or of all, for a batch of rows; float32 `[n, c]`."""
        return tf.add_n([teacher.logits(labels, items) for teacher in self._teachers])


def _peers_logits(settings: Distillation, interactions: csr_matrix) -> Float32Array:
    users, items = interactions.shape
    try:
        check_memory(f"the scores of {users:,} users for {items:,} items", 3 * 4 * users * items)
        total = np.zeros((users, items), np.float32)
        for peer in settings.peers:
            scores = _peer(peer).fit(interactions)(np.arange(users))
            if not np.isfinite(scores).all():
                raise Refused(f"{type(peer).__name__.lower()} has scores that are not finite; change its settings")
            total += np.log(np.maximum(scores, np.float32(LEAST_SCORE)))
    except Refused as reason:
        raise RecipeError(f"[train.distillation] peers: {reason}") from None
    return total * np.float32(settings.peers_exponent / len(settings.peers))


def _peer(settings: config.Ease | config.Als) -> Peer:
    if isinstance(settings, config.Ease):
        return Ease(settings.l2)
    return Als(settings.factors, settings.regularization, settings.alpha, settings.item_exponent)
