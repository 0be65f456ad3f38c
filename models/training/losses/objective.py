"""The training objective: a softmax in which the chosen item is to win against the whole catalogue or a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from models.config import Objective, Sampled
from models.training.losses.normaliser import sum_of_normalisers
from models.training.losses.sampling import ItemCounts, Negatives, Sampler, distinct


class Labels(NamedTuple):
    """What is known of the rows of a batch besides the query's features."""

    items: tf.Tensor
    """int64 `[n]`, the chosen items' `item_index`."""
    users: tf.Tensor
    """int64 `[n]`, as `TrainingRows` numbers them."""
    weights: tf.Tensor
    """float32 `[n]`, what the row's loss is multiplied by."""
    events: tf.Tensor | None = None
    """int64 `[n]`, the numbers of their kinds of events, where these are tasks."""
    ratings: tf.Tensor | None = None
    """float32 `[n]`, where these are a task."""
    taught: tf.Tensor | None = None
    """float32 `[n, t]`, the vectors that a teacher has of the queries."""

    def of(self, group: slice) -> Labels:
        """Return those of a group of rows."""
        return Labels(*(None if column is None else column[group] for column in self))


class Towers(Protocol):
    """What an objective asks of a model."""

    @property
    def temperature(self) -> float | tf.Tensor:
        """What similarities are divided by."""

    def query_vectors(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the vectors of queries, float32 `[n, d]`."""

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors of these items, or of all, float32 `[items, d]`."""


class Teacher(Protocol):
    """What an objective asks of a teacher."""

    def query_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Return what it makes of queries, float32 `[n, t]`; None where it knows users alone."""

    def logits(self, labels: Labels, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return what it gives these items (int64 `[c]`), or all, for a batch of rows; float32 `[n, c]`."""


class Lesson(NamedTuple):
    """A teacher, how much of a row's label is its softmax, and whether it leaves the user's other items out."""

    teacher: Teacher
    weight: float
    unseen_only: bool


def with_lesson(labels: Labels, lesson: Lesson | None, features: Mapping[str, tf.Tensor]) -> Labels:
    """Add what the teacher makes of the queries, where the labels do not have it."""
    if lesson is None or labels.taught is not None:
        return labels
    return labels._replace(taught=lesson.teacher.query_vectors(features))


class Taught(NamedTuple):
    """What a teacher says of a batch."""

    logits: tf.Tensor
    """float32 `[n, c]`, of the items that the softmax is over; -inf: not that one."""
    weight: float


Loss = Callable[[Towers, Mapping[str, tf.Tensor], Labels], tf.Tensor]


def build_loss(
    objective: Objective, rows: ItemCounts, dim: int, lesson: Lesson | None = None, fixed_shapes: bool = False
) -> CatalogueLoss | SampledLoss:
    """Return the loss of a batch, a scalar, as the recipe wants it; `dim` is the width of the towers' vectors.

    With `fixed_shapes` every step embeds as many items, as a compiled tower needs.
    """
    if isinstance(objective.candidates, Sampled):
        return SampledLoss(objective, rows, Sampler(objective.candidates, rows, dim), lesson, fixed_shapes)
    return CatalogueLoss(objective, rows, lesson)


class CatalogueLoss:
    """The softmax over all items."""

    def __init__(self, objective: Objective, rows: ItemCounts, lesson: Lesson | None = None) -> None:
        self.objective, self.rows, self.lesson = objective, rows, lesson

    def __call__(self, towers: Towers, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the weighted mean loss of a batch, a scalar."""
        queries, labels = towers.query_vectors(features, True), with_lesson(labels, self.lesson, features)
        if self.objective.is_blockwise:
            return self._blockwise(towers, queries, labels)
        losses, _ = self.row_losses(towers, queries, labels)
        return tf.reduce_mean(losses * labels.weights)

    def _blockwise(self, towers: Towers, queries: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Return the same as by the rows' losses: beside the normalisers it only takes what vector a label expects."""
        items, queries = towers.item_vectors(True), queries / towers.temperature
        weights = labels.weights / tf.cast(tf.size(labels.items), tf.float32)
        expected, smoothing = tf.gather(items, labels.items), self.objective.label_smoothing
        if smoothing:
            expected = (1.0 - smoothing) * expected + smoothing * tf.reduce_mean(items, axis=0)
        taught = self._taught(labels)
        if taught is not None:
            expected = (1.0 - taught.weight) * expected + taught.weight * tf.matmul(tf.nn.softmax(taught.logits), items)
        matched = tf.reduce_sum(queries * expected, axis=1)
        own = tf.cast(labels.items, tf.int32)
        return sum_of_normalisers(queries, items, weights, own) - tf.reduce_sum(weights * matched)

    def row_losses(self, towers: Towers, queries: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the loss of every row, float32 `[n]`, and the vectors of the chosen items, float32 `[n, d]`."""
        items = towers.item_vectors(True)
        weight = self.objective.positives_weight
        handicap = tf.where(self._other_positives(labels), _log(weight), 0.0) if weight < 1 else None
        losses = catalogue_softmax(
            queries,
            items,
            labels.items,
            towers.temperature,
            handicap,
            self.objective.label_smoothing,
            self._taught(labels),
        )
        return losses, tf.gather(items, labels.items)

    def _taught(self, labels: Labels) -> Taught | None:
        if self.lesson is None:
            return None
        logits = self.lesson.teacher.logits(labels)
        if self.lesson.unseen_only:
            logits = tf.where(self._other_positives(labels), -np.inf, logits)
        return Taught(logits, self.lesson.weight)

    def _other_positives(self, labels: Labels) -> tf.Tensor:
        catalogue = tf.range(self.rows.num_items, dtype=tf.int64)
        return self.rows.owned(labels.users) & (catalogue != labels.items[:, tf.newaxis])


class _Embedded(NamedTuple):
    """The items of a batch and the drawn ones."""

    items: tf.Tensor
    """int64 `[c]`, each once."""
    vectors: tf.Tensor
    """float32 `[c, d]`."""
    own: tf.Tensor
    """int32 `[n]`: which of them the batch's are."""
    drawn: tf.Tensor
    """int32 `[drawn]`: which of them the drawn ones are."""


class SampledLoss:
    """The softmax over the target and sampled negatives; embeds the batch's items and the drawn ones, each once."""

    def __init__(
        self,
        objective: Objective,
        rows: ItemCounts,
        sampler: Sampler,
        lesson: Lesson | None = None,
        fixed_shapes: bool = False,
    ) -> None:
        self.objective, self.rows, self.sampler, self.lesson = objective, rows, sampler, lesson
        self._fixed_shapes = fixed_shapes

    def __call__(self, towers: Towers, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the weighted mean loss of a batch, a scalar."""
        queries, labels = towers.query_vectors(features, True), with_lesson(labels, self.lesson, features)
        if self.objective.is_blockwise and self.lesson is None:
            return self._blockwise(towers, queries, labels)
        losses, _ = self.row_losses(towers, queries, labels)
        return tf.reduce_mean(losses * labels.weights)

    def _blockwise(self, towers: Towers, queries: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Return the same as by the rows' losses, at half the cost and a tenth of the memory."""
        embedded = self._embedded(towers, labels)
        queries, weights = queries / towers.temperature, labels.weights / tf.cast(tf.size(labels.items), tf.float32)
        matched = tf.reduce_sum(queries * tf.gather(embedded.vectors, embedded.own), axis=1)
        normalisers = [self._normalisers(group, queries, weights, embedded) for group in self._groups(labels)]
        return tf.add_n(normalisers) - tf.reduce_sum(weights * matched)

    def _normalisers(self, group: slice, queries: tf.Tensor, weights: tf.Tensor, embedded: _Embedded) -> tf.Tensor:
        """Return the weighted sum of the log-normalisers of a group of rows, a scalar."""
        own = embedded.own[group]
        once, column, drawn = tf.unique_with_counts(tf.concat([own, embedded.drawn], axis=0))
        expected = self.sampler.expected(tf.gather(embedded.items, once), tf.size(own))
        counts = tf.math.log(tf.cast(drawn, tf.float32)) - tf.math.log(expected)
        vectors, places = tf.gather(embedded.vectors, once), column[: tf.size(own)]
        return sum_of_normalisers(queries[group], vectors, weights[group], places, counts)

    def _embedded(self, towers: Towers, labels: Labels) -> _Embedded:
        items, column = distinct(tf.concat([labels.items, self.sampler.draw()], axis=0), self._fixed_shapes)
        batch = tf.size(labels.items)
        return _Embedded(items, towers.item_vectors(True, items), column[:batch], column[batch:])

    def _groups(self, labels: Labels) -> list[slice]:
        """Return the rows whose items compete with one another; how many there are is known when a step is traced."""
        size = self.sampler.config.group
        return [slice(start, start + size) for start in range(0, labels.items.shape[0], size)]

    def row_losses(self, towers: Towers, queries: tf.Tensor, labels: Labels) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the loss of every row, float32 `[n]`, and the vectors of the chosen items, float32 `[n, d]`."""
        embedded = self._embedded(towers, labels)
        groups = self._groups(labels)
        losses = [self._losses_of(group, queries, labels, embedded, towers.temperature) for group in groups]
        targets = tf.gather(embedded.vectors, embedded.own)
        self.sampler.remember(labels.items, targets)
        return tf.concat(losses, axis=0), targets

    def _losses_of(
        self, group: slice, queries: tf.Tensor, labels: Labels, embedded: _Embedded, temperature: float | tf.Tensor
    ) -> tf.Tensor:
        """Return the losses of a group of rows, float32 `[n]`."""
        own, labels = embedded.own[group], labels.of(group)
        competing = tf.concat([own, embedded.drawn], axis=0)
        items, vectors = tf.gather(embedded.items, competing), tf.gather(embedded.vectors, competing)
        negatives = self.sampler.with_cached(items, vectors, tf.size(own))
        hits = negatives.items == labels.items[:, tf.newaxis]  # accidental ones, and the row's own target
        handicap, weight = tf.where(hits, -np.inf, 0.0), self.objective.positives_weight
        if weight < 1:
            handicap += tf.where(self.rows.owned(labels.users, negatives.items), _log(weight), 0.0)
        return sampled_softmax(
            queries[group],
            tf.gather(embedded.vectors, own),
            negatives,
            handicap,
            temperature,
            self.sampler.config.hard,
            self.objective.label_smoothing,
            self._taught(labels, negatives.items, hits),
        )

    def _taught(self, labels: Labels, negatives: tf.Tensor, hits: tf.Tensor) -> Taught | None:
        """Return what the teacher gives every row's own item, first, and the negatives."""
        if self.lesson is None:
            return None
        logits = self.lesson.teacher.logits(labels, tf.concat([labels.items, negatives], axis=0))
        batch = tf.size(labels.items)
        left_out = self.rows.owned(labels.users, negatives) if self.lesson.unseen_only else hits
        others = tf.where(left_out, -np.inf, logits[:, batch:])
        return Taught(tf.concat([tf.linalg.diag_part(logits)[:, tf.newaxis], others], axis=1), self.lesson.weight)


def catalogue_softmax(
    queries: tf.Tensor,
    items: tf.Tensor,
    targets: tf.Tensor,
    temperature: float | tf.Tensor,
    handicap: tf.Tensor | None = None,
    smoothing: float = 0.0,
    taught: Taught | None = None,
) -> tf.Tensor:
    """Return each row's cross-entropy in the softmax over all items, float32 `[n]`.

    `queries` float32 `[n, d]`, `items` float32 `[items, d]`, `targets` int64 `[n]`; `handicap` float32 `[n, items]`, 0
    for a row's target, is added to the logits of what the target competes with: -inf leaves an item out. Written as
    log-sum-exp minus the target's logit, which is a third faster on the CPU than
    `tf.nn.sparse_softmax_cross_entropy_with_logits`.
    """
    queries = queries / temperature
    logits = tf.matmul(queries, items, transpose_b=True)
    normaliser = tf.reduce_logsumexp(logits if handicap is None else logits + handicap, axis=1)
    own = tf.reduce_sum(queries * tf.gather(items, targets), axis=1)
    losses = normaliser - own
    if smoothing:
        evenly = tf.ones_like(logits) if handicap is None else tf.exp(handicap)
        losses += smoothing * (own - tf.reduce_sum(evenly * logits, axis=1) / tf.reduce_sum(evenly, axis=1))
    return losses if taught is None else _mixed(losses, normaliser, taught, logits)


def sampled_softmax(
    queries: tf.Tensor,
    own_items: tf.Tensor,
    negatives: Negatives,
    handicap: tf.Tensor,
    temperature: float | tf.Tensor,
    hard: int = 0,
    smoothing: float = 0.0,
    taught: Taught | None = None,
) -> tf.Tensor:
    """Return each row's cross-entropy in the softmax over its target and the negatives, float32 `[n]`.

    `queries` and `own_items`, the targets' vectors, float32 `[n, d]`; `handicap` float32 `[n, c]` is added to the
    negatives' logits: -inf leaves one out; `taught` has the logits of the target first, then those of the negatives.
    The sum of a row's corrected exponentials is an unbiased estimate of the catalogue's.
    """
    queries = queries / temperature
    own = tf.reduce_sum(queries * own_items, axis=1)
    logits = tf.matmul(queries, negatives.vectors, transpose_b=True)
    share = handicap - negatives.log_expected  # the logarithm of how many of the catalogue's items one stands for
    competing = logits + share
    if hard:
        competing = tf.math.top_k(competing, tf.minimum(hard, tf.shape(competing)[1]), sorted=False).values
    normaliser = tf.reduce_logsumexp(tf.concat([own[:, tf.newaxis], competing], axis=1), axis=1)
    losses = normaliser - own
    if smoothing:
        evenly = tf.exp(share)  # estimates the mean over the catalogue
        total = own + tf.reduce_sum(evenly * logits, axis=1)
        losses += smoothing * (own - total / (1.0 + tf.reduce_sum(evenly, axis=1)))
    if taught is None:
        return losses
    corrected = taught.logits[:, 1:] - negatives.log_expected
    taught = taught._replace(logits=tf.concat([taught.logits[:, :1], corrected], axis=1))
    return _mixed(losses, normaliser, taught, tf.concat([own[:, tf.newaxis], logits], axis=1))


def _mixed(losses: tf.Tensor, normaliser: tf.Tensor, taught: Taught, logits: tf.Tensor) -> tf.Tensor:
    """Mix the losses with the cross-entropies against the teacher's softmax."""
    expected = tf.reduce_sum(tf.nn.softmax(taught.logits) * logits, axis=1)
    return (1.0 - taught.weight) * losses + taught.weight * (normaliser - expected)


def _log(weight: float) -> float:
    """Return the logarithm, -inf of nothing."""
    return float(np.log(weight)) if weight else -np.inf
