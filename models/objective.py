"""The training objective: a softmax in which the chosen item is to win against the whole catalogue or a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from models.config import Objective, Sampled
from models.sampling import Negatives, Sampler, TrainingRows


class Labels(NamedTuple):
    """What is known of the rows of a batch besides the query's features."""

    items: tf.Tensor
    """int64 `[n]`, the chosen items' `item_index`."""
    users: tf.Tensor
    """int64 `[n]`, as `TrainingRows` numbers them."""
    weights: tf.Tensor
    """float32 `[n]`, what the row's loss is multiplied by."""


class Towers(Protocol):
    """What an objective asks of a model."""

    @property
    def temperature(self) -> float | tf.Tensor:
        """What similarities are divided by."""

    def query_vectors(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the vectors of queries, float32 `[n, d]`."""

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors of these items, or of all, float32 `[items, d]`."""


Loss = Callable[[Towers, Mapping[str, tf.Tensor], Labels], tf.Tensor]


def build_loss(objective: Objective, rows: TrainingRows, dim: int) -> Loss:
    """Return the loss of a batch, a scalar, as the recipe wants it; `dim` is the width of the towers' vectors."""
    if isinstance(objective.candidates, Sampled):
        return SampledLoss(objective, rows, Sampler(objective.candidates, rows, dim))
    return CatalogueLoss(objective, rows)


class CatalogueLoss:
    """The softmax over all items."""

    def __init__(self, objective: Objective, rows: TrainingRows) -> None:
        self.objective, self.rows = objective, rows

    def __call__(self, towers: Towers, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the weighted mean loss of a batch, a scalar."""
        queries, items = towers.query_vectors(features, True), towers.item_vectors(True)
        left_out = self._other_positives(labels) if self.objective.mask_positives else None
        losses = catalogue_softmax(
            queries, items, labels.items, towers.temperature, left_out, self.objective.label_smoothing
        )
        return tf.reduce_mean(losses * labels.weights)

    def _other_positives(self, labels: Labels) -> tf.Tensor:
        catalogue = tf.range(self.rows.num_items, dtype=tf.int64)
        return self.rows.owned(labels.users, catalogue) & (catalogue != labels.items[:, tf.newaxis])


class SampledLoss:
    """The softmax over the target and sampled negatives; embeds the batch's items and the drawn ones, no others."""

    def __init__(self, objective: Objective, rows: TrainingRows, sampler: Sampler) -> None:
        self.objective, self.rows, self.sampler = objective, rows, sampler

    def __call__(self, towers: Towers, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the weighted mean loss of a batch, a scalar."""
        queries = towers.query_vectors(features, True)
        batch = tf.size(labels.items)
        items = tf.concat([labels.items, self.sampler.draw()], axis=0)
        vectors = towers.item_vectors(True, items)
        negatives = self.sampler.with_cached(items, vectors, batch)
        left_out = negatives.items == labels.items[:, tf.newaxis]  # accidental hits, and the row's own target
        if self.objective.mask_positives:
            left_out |= self.rows.owned(labels.users, negatives.items)
        losses = sampled_softmax(
            queries,
            vectors[:batch],
            negatives,
            left_out,
            towers.temperature,
            self.sampler.config.hard,
            self.objective.label_smoothing,
        )
        self.sampler.remember(labels.items, vectors[:batch])
        return tf.reduce_mean(losses * labels.weights)


def catalogue_softmax(
    queries: tf.Tensor,
    items: tf.Tensor,
    targets: tf.Tensor,
    temperature: float | tf.Tensor,
    left_out: tf.Tensor | None = None,
    smoothing: float = 0.0,
) -> tf.Tensor:
    """Return each row's cross-entropy in the softmax over all items, float32 `[n]`.

    `queries` float32 `[n, d]`, `items` float32 `[items, d]`, `targets` int64 `[n]`; `left_out` bool `[n, items]`, never
    a row's target, marks what is not in its softmax. Written as log-sum-exp minus the target's logit, which is a third
    faster on the CPU than `tf.nn.sparse_softmax_cross_entropy_with_logits`.
    """
    queries = queries / temperature
    logits = tf.matmul(queries, items, transpose_b=True)
    competing = logits if left_out is None else tf.where(left_out, -np.inf, logits)
    normaliser = tf.reduce_logsumexp(competing, axis=1)
    own = tf.reduce_sum(queries * tf.gather(items, targets), axis=1)
    losses = normaliser - own
    if smoothing:
        evenly = tf.ones_like(logits) if left_out is None else tf.cast(~left_out, tf.float32)
        losses += smoothing * (own - tf.reduce_sum(evenly * logits, axis=1) / tf.reduce_sum(evenly, axis=1))
    return losses


def sampled_softmax(
    queries: tf.Tensor,
    own_items: tf.Tensor,
    negatives: Negatives,
    left_out: tf.Tensor,
    temperature: float | tf.Tensor,
    hard: int = 0,
    smoothing: float = 0.0,
) -> tf.Tensor:
    """Return each row's cross-entropy in the softmax over its target and the negatives, float32 `[n]`.

    `queries` and `own_items`, the targets' vectors, float32 `[n, d]`; `left_out` bool `[n, c]` marks the negatives that
    are not a row's. The sum of a row's corrected exponentials is an unbiased estimate of the catalogue's.
    """
    queries = queries / temperature
    own = tf.reduce_sum(queries * own_items, axis=1)
    logits = tf.matmul(queries, negatives.vectors, transpose_b=True)
    competing = tf.where(left_out, -np.inf, logits - negatives.log_expected)
    if hard:
        competing = tf.math.top_k(competing, tf.minimum(hard, tf.shape(competing)[1]), sorted=False).values
    losses = tf.reduce_logsumexp(tf.concat([own[:, tf.newaxis], competing], axis=1), axis=1) - own
    if smoothing:
        evenly = tf.where(left_out, 0.0, tf.exp(-negatives.log_expected))  # estimates the mean over the catalogue
        total = own + tf.reduce_sum(evenly * logits, axis=1)
        losses += smoothing * (own - total / (1.0 + tf.reduce_sum(evenly, axis=1)))
    return losses
