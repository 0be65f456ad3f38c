"""What both kinds of rankers are: query and item sides, a score of both, and a step of their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from workflows.features.stage import FeatureSpec

Features = Mapping[str, tf.Tensor]


class Sides(NamedTuple):
    """The features that a ranker is fed."""

    query: list[FeatureSpec]
    item: list[FeatureSpec]
    dim: int
    """Width of the retrieval's vectors; 0: there are none, and the ranker stands alone."""


class Batch(NamedTuple):
    """Queries and their candidates."""

    features: Features
    vectors: tf.Tensor
    """float32 `[n, dim]`, of the queries, by the towers that retrieve."""
    items: tf.Tensor
    """int64 `[n, m]`, item indices; -1 where a query has fewer."""
    labels: tf.Tensor
    """float32 `[n, m]`, 1 for the item that was chosen."""
    weights: tf.Tensor
    """float32 `[n]`."""


class RankingModel(tf.keras.Model):
    """A model of query, candidate and what the towers think of both.

    The score is that of the kind plus the towers' similarity times a factor that is learned. An item's side is its
    vector by the towers, then whatever of the kind's depends on the item alone, float32 `[width]`.
    """

    def __init__(self, sides: Sides, scale: float = 1.0) -> None:
        super().__init__()
        self.sides, self.binary = sides, False
        self.catalogue: dict[str, tf.Tensor] = {}
        self.vectors = tf.zeros([0, sides.dim])
        self.bias = tf.Variable(0.0, name="bias")
        self.log_scale = tf.Variable(np.float32(np.log(scale)), name="log_scale") if sides.dim else None

    def learn_from(self, catalogue: Features, vectors: tf.Tensor, binary: bool) -> None:
        """Take the features and vectors, float32 `[items, dim]`, of all items, and which loss is minimised."""
        self.catalogue, self.vectors, self.binary = dict(catalogue), vectors, binary

    def query_side(self, features: Features, training: bool = False) -> tf.Tensor:
        """Return what the kind makes of the queries alone, float32 `[n, ...]`."""
        raise NotImplementedError

    def own_item_side(self, features: Features, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return what the kind makes of items alone, float32 `[items, w]`; `items` are their indices."""
        raise NotImplementedError

    def interaction(
        self, query: tf.Tensor, own: tf.Tensor, features: Features, product: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the kind's scores, float32 `[n, m]`, of `own` item sides, float32 `[n, m, w]`.

        `product` is that of the towers' vectors, number by number, float32 `[n, m, dim]`.
        """
        raise NotImplementedError

    def regularisation(self, query: tf.Tensor, own: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return what is added to the loss of a batch, a scalar."""
        return tf.constant(0.0)

    def item_side(self, features: Features, items: tf.Tensor, vectors: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the sides of items, float32 `[items, dim + w]`, given their vectors, float32 `[items, dim]`."""
        return tf.concat([vectors, self.own_item_side(features, items, training)], axis=1)

    def scores(self, features: Features, vectors: tf.Tensor, sides: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the scores, float32 `[n, m]`, of candidates' `sides`, float32 `[n, m, dim + w]`."""
        return self.scored(self.query_side(features, training), features, vectors, sides, training)

    def scored(
        self, query: tf.Tensor, features: Features, vectors: tf.Tensor, sides: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Do what `scores` does with the query sides already made."""
        dim = self.sides.dim
        product = vectors[:, tf.newaxis, :] * sides[:, :, :dim]
        score = self.interaction(query, sides[:, :, dim:], features, product, training) + self.bias
        return score if self.log_scale is None else score + tf.exp(self.log_scale) * tf.reduce_sum(product, axis=2)

    @property
    def parameters(self) -> int:
        """Return how many numbers are trained, once it has been called."""
        return sum(int(variable.shape.num_elements()) for variable in self.trainable_variables)

    def catalogue_sides(self) -> tf.Tensor:
        """Return the sides of all items, float32 `[items, dim + w]`."""
        items = tf.range(len(self.vectors), dtype=tf.int64)
        return self.item_side(self.catalogue, items, self.vectors)

    def loss_of(self, batch: Batch) -> tf.Tensor:
        """Return what a step minimises, a scalar; each item of the batch is embedded once."""
        items, places = tf.unique(tf.reshape(tf.maximum(batch.items, 0), [-1]))
        features = {name: tf.gather(values, items) for name, values in self.catalogue.items()}
        sides = self.item_side(features, items, tf.gather(self.vectors, items), True)
        sides = tf.gather(sides, tf.reshape(places, tf.shape(batch.items)))
        query = self.query_side(batch.features, True)
        logits = self.scored(query, batch.features, batch.vectors, sides, True)
        mask = batch.items >= 0
        losses = binary_losses(logits, batch.labels, mask) if self.binary else softmax_losses(logits, mask)
        return tf.reduce_mean(losses * batch.weights) + self.regularisation(query, sides[:, :, self.sides.dim :], batch)

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """Take one optimiser step on a batch."""
        with tf.GradientTape() as tape:
            loss = self.loss_of(Batch(*data))
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return {"loss": loss}


def softmax_losses(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return each row's cross-entropy of its first candidate in the softmax over those there are, float32 `[n]`."""
    return tf.reduce_logsumexp(tf.where(mask, logits, -np.inf), axis=1) - logits[:, 0]


def binary_losses(logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return each row's mean binary cross-entropy over the candidates that are there, float32 `[n]`."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits) * tf.cast(mask, tf.float32)
    return tf.reduce_sum(losses, axis=1) / tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)


def projected(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return float32 `[n, m, w]` times `[w, k]`, as one product of matrices; `[n, m, k]`."""
    width, out = weights.shape
    flat = tf.matmul(tf.reshape(values, [-1, width]), weights)
    return tf.reshape(flat, [-1, tf.shape(values)[1], out])
