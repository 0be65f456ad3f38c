"""The Dual Augmented Two-Tower: vectors of users and items that stand in for the other tower, and what they learn.

DAT: Yu, Wang, Feng and Xue, "A Dual Augmented Two-tower Model for Online Large-scale Recommendation", DLP-KDD 2021: the
adaptive-mimic mechanism and the category alignment loss. The latter's distance is that of Sun and Saenko, "Deep CORAL:
Correlation Alignment for Deep Domain Adaptation", ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import tensorflow as tf

from models.config import Augmentation, Model, Side
from models.metrics import Float32Array
from models.training.losses.objective import Labels, Loss, Towers
from models.training.losses.sampling import ItemCounts
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSet, FeatureSpec

FIRST_KNOWN: Final = 3
"""The codes below it are padding, missing and unseen values, which are no category."""
ALIGNED: Final = 32
"""So many categories are aligned, the most frequent ones among the rows trained on."""


class AugmentedTowers(Towers, Protocol):
    """Towers whose inputs hold augmented vectors."""

    def augmented_queries(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return those of queries, float32 `[n, d]`."""

    def augmented_items(self, items: tf.Tensor) -> tf.Tensor:
        """Return those of items (int64 `[n]`), float32 `[n, d]`."""


class AugmentedVectors(tf.keras.layers.Embedding):
    """A vector for every value of a categorical feature, as wide as the towers' outputs."""

    def __init__(self, spec: FeatureSpec, dim: int) -> None:
        super().__init__(spec.cardinality, dim, name=f"{spec.name}_augmented_embedding")
        self.feature = spec.name


def augmented_vectors(specs: Sequence[FeatureSpec], side: Side, config: Model) -> AugmentedVectors | None:
    """Return the augmented vectors of a tower; None where the recipe wants none.

    Raises
    ------
    RecipeError
        The tower has no such feature, or it is not categorical.
    """
    if config.augmentation is None:
        return None
    name: str = getattr(config.augmentation, side)
    categorical = {spec.name: spec for spec in specs if spec.kind == "categorical"}
    if name not in categorical:
        raise RecipeError(
            f"[model.augmentation] {side}: '{name}' is no categorical feature of [{side}.features], which has "
            f"{', '.join(sorted(categorical)) or 'none'}; its values are to have a vector each"
        )
    return AugmentedVectors(categorical[name], config.tower[-1])


def augmented_loss(loss: Loss, config: Augmentation | None, rows: ItemCounts, data: FeatureSet) -> Loss:
    """Return the loss, with what the recipe's augmentation adds to it.

    Raises
    ------
    RecipeError
        The catalogue has no such category.
    """
    if config is None:
        return loss
    members = membership(config.category, rows.counts.numpy(), data) if config.category else None
    return AugmentedLoss(loss, config, members)


class AugmentedLoss:
    """The loss of an objective, the mimic loss of both towers, and the category alignment loss.

    `members` is float32 `[items, k]`, the categories of items, see `membership`; None: nothing is aligned.
    """

    def __init__(self, loss: Loss, config: Augmentation, members: Float32Array | None) -> None:
        self.loss, self.config = loss, config
        self.members = None if members is None else tf.constant(members)

    def __call__(self, towers: Any, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the loss of a batch, a scalar; `towers` are AugmentedTowers."""
        observed = _Observed(towers)
        loss = self.loss(observed, features, labels)
        queries, items = observed.queries, observed.targets(labels)
        mimic = mimic_loss(towers.augmented_queries(features), items, labels.weights)
        mimic += mimic_loss(towers.augmented_items(labels.items), queries, labels.weights)
        loss += self.config.mimic_weight * mimic
        if self.members is None:
            return loss
        return loss + self.config.alignment_weight * alignment_loss(items, tf.gather(self.members, labels.items))


class _Observed:
    """Towers, and the vectors that they were last asked for."""

    def __init__(self, towers: Towers) -> None:
        self._towers = towers
        self._items: tf.Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._towers, name)

    def query_vectors(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        self.queries = self._towers.query_vectors(features, training)
        return self.queries

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        self._items, self._vectors = items, self._towers.item_vectors(training, items)
        return self._vectors

    def targets(self, labels: Labels) -> tf.Tensor:
        """Return the vectors of the batch's own items, which are among those asked for, in some order."""
        if self._items is None:
            return tf.gather(self._vectors, labels.items)
        order = tf.argsort(self._items)
        places = tf.searchsorted(tf.gather(self._items, order), labels.items)
        return tf.gather(self._vectors, tf.gather(order, places))


def mimic_loss(augmented: tf.Tensor, others: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the weighted mean squared distance of augmented vectors from the other tower's, which it does not move.

    Both are float32 `[n, d]`, of positives: where a query and an item were not chosen together nothing is mimicked.
    """
    squared = tf.reduce_sum(tf.square(augmented - tf.stop_gradient(others)), axis=1)
    return tf.reduce_mean(squared * weights)


def alignment_loss(vectors: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Return the sum of the squared Frobenius distances of the other categories' covariances from the first one's.

    `vectors` float32 `[n, d]`; `members` float32 `[n, k]`, 1 where a row is of a category, the major one first. A
    category of fewer than two rows has no covariance and is left out.
    """
    counts = tf.reduce_sum(members, axis=0)
    own = tf.transpose(members)[:, :, tf.newaxis] * vectors
    sums = tf.reduce_sum(own, axis=1)
    products = tf.matmul(own, tf.broadcast_to(vectors, tf.shape(own)), transpose_a=True)
    squares = sums[:, :, tf.newaxis] * sums[:, tf.newaxis] / tf.maximum(counts, 1.0)[:, tf.newaxis, tf.newaxis]
    covariances = (products - squares) / tf.maximum(counts - 1.0, 1.0)[:, tf.newaxis, tf.newaxis]
    distances = tf.reduce_sum(tf.square(covariances - covariances[0]), axis=[1, 2])
    comparable = (counts >= 2.0) & (counts[0] >= 2.0)
    return tf.reduce_sum(tf.where(comparable, distances, 0.0))


def membership(category: str, counts: Float32Array, data: FeatureSet) -> Float32Array:
    """Return the categories of items, float32 `[items, k]`; the most frequent in the rows trained on first.

    `counts` float32 `[items]` says how many rows an item has.

    Raises
    ------
    RecipeError
        The catalogue has no feature of this name, or it has no codes.
    """
    coded = {spec.name: spec for spec in data.item_specs if spec.cardinality}
    if category not in coded:
        raise RecipeError(
            f"[model.augmentation] category: '{category}' is no categorical or list feature of [item.features], which "
            f"has {', '.join(sorted(coded)) or 'none'}"
        )
    codes = data.items[category].reshape(len(data.catalogue), -1)
    members = np.zeros((len(codes), coded[category].cardinality), np.float32)
    np.put_along_axis(members, codes, 1.0, axis=1)
    known = members[:, FIRST_KNOWN:]
    frequent = np.argsort(-(counts @ known), kind="stable")[:ALIGNED]
    return known[:, frequent]
