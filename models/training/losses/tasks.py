"""Retrieval, ratings and several kinds of events learned jointly over the same towers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from models.config import Model
from models.metrics import Float32Array, Int64Array
from models.towers.heads import Scale, TaskHeads
from models.training.losses.objective import CatalogueLoss, Labels, Loss, SampledLoss, Towers, with_lesson
from models.training.losses.task_config import EventTasks, Tasks
from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.stage import Part

EVENTS = "[train.tasks.events]"


class TasksLoss:
    """The loss of a batch over all tasks.

    Parameters
    ----------
    retrieval
        The loss of retrieval, row by row.
    tasks
        What else there is, and how it is weighed.
    heads
        Theirs.
    """

    def __init__(self, retrieval: CatalogueLoss | SampledLoss, tasks: Tasks, heads: TaskHeads) -> None:
        self.retrieval, self.tasks, self.heads = retrieval, tasks, heads

    def __call__(self, towers: Towers, features: Mapping[str, tf.Tensor], labels: Labels) -> tf.Tensor:
        """Return the loss of a batch, a scalar."""
        queries, labels = towers.query_vectors(features, True), with_lesson(labels, self.retrieval.lesson, features)
        events = tf.zeros_like(labels.items) if labels.events is None else labels.events
        losses, items = self.retrieval.row_losses(towers, self.heads.asked(queries, events), labels)
        if self.heads.log_variances is not None:
            return self._uncertain(losses, events, labels, self._errors(queries, items, labels))
        retrieved = tf.reduce_mean(losses * labels.weights)
        if self.tasks.rating is None:
            return retrieved
        share = self.tasks.rating.share
        if not share:
            return retrieved + self._errors(tf.stop_gradient(queries), tf.stop_gradient(items), labels)
        return (1.0 - share) * retrieved + share * self._errors(queries, items, labels)

    def _errors(self, queries: tf.Tensor, items: tf.Tensor, labels: Labels) -> tf.Tensor:
        """Return the mean squared error of the batch's ratings, a scalar."""
        if labels.ratings is None:
            return tf.constant(0.0)
        predicted, (mean, deviation) = self.heads.rating(queries, items), self.heads.scale
        return tf.reduce_mean(tf.square(predicted - (labels.ratings - mean) / deviation))

    def _uncertain(self, losses: tf.Tensor, events: tf.Tensor, labels: Labels, errors: tf.Tensor) -> tf.Tensor:
        """Weigh the mean loss of each kind of event, and the rating's, by what is learned of their variances."""
        kinds = len(self.tasks.events.kinds) if self.tasks.events else 1
        totals = tf.math.unsorted_segment_sum(tf.stack([losses * labels.weights, labels.weights], 1), events, kinds)
        means = tf.math.divide_no_nan(totals[:, 0], totals[:, 1])
        rated = 1 if self.tasks.rating else 0
        terms = tf.concat([means, tf.repeat(errors, rated)], axis=0)
        present = tf.concat([totals[:, 1] > 0, tf.ones(rated, tf.bool)], axis=0)
        squared = tf.constant([False] * kinds + [True] * rated)
        weighed = uncertain_terms(terms, self.heads.log_variances, squared)
        return tf.reduce_sum(tf.where(present, weighed, 0.0))


def uncertain_terms(losses: tf.Tensor, log_variances: tf.Tensor, squared: tf.Tensor) -> tf.Tensor:
    """Return exp(-s) * loss + s / 2 for each loss, float32 `[terms]`, half the first where the loss is a squared error.

    s is the logarithm of the task's variance, float32 `[terms]` (Kendall, Gal and Cipolla 2018, who derive the first
    for a softmax of unknown temperature, the second for a Gaussian).
    """
    return tf.where(squared, 0.5, 1.0) * tf.exp(-log_variances) * losses + 0.5 * log_variances


def with_tasks(
    retrieval: CatalogueLoss | SampledLoss, model: Model, tasks: Tasks | None, scale: Scale
) -> tuple[Loss, TaskHeads | None]:
    """Return the loss over all tasks of towers that learn from ratings of this scale, and the tasks' heads."""
    if tasks is None:
        return retrieval, None
    heads = TaskHeads(tasks, model.tower[-1], model.similarity == "cosine", scale)
    return TasksLoss(retrieval, tasks, heads), heads


def task_labels(interactions: pd.DataFrame, tasks: Tasks | None) -> dict[str, np.ndarray]:
    """Return what `Labels` has of rows for the tasks: `events`, int64 `[rows]`, and `ratings`, float32 `[rows]`."""
    labels: dict[str, np.ndarray] = {}
    if tasks and tasks.events:
        labels["events"] = event_codes(interactions, tasks.events)
    if tasks and tasks.rating:
        labels["ratings"] = interactions[Columns.Rating].to_numpy(np.float32)
    return labels


def event_weights(interactions: pd.DataFrame, tasks: Tasks | None) -> Float32Array:
    """Return the weight of each row's kind of event, float32 `[rows]`; 1 where kinds are not told apart."""
    if tasks is None or tasks.events is None:
        return np.ones(len(interactions), np.float32)
    by_kind = np.array([tasks.events.weight(kind) for kind in tasks.events.kinds], np.float32)
    return by_kind[event_codes(interactions, tasks.events)]


def event_codes(interactions: pd.DataFrame, events: EventTasks) -> Int64Array:
    """Return the number of each row's kind of event, int64 `[rows]`.

    Raises
    ------
    RecipeError
        There is no such column, or a row is of a kind that the recipe does not name.
    """
    if Columns.Event not in interactions.columns:
        raise RecipeError(
            f"{EVENTS}: the interactions have no column {Columns.Event!r}; there are: "
            f'{", ".join(interactions.columns)}; say which it is: data.interactions.columns = {{ event = "..." }}'
        )
    kinds = interactions[Columns.Event]
    codes = pd.Index(events.kinds).get_indexer(kinds.astype(str))
    unknown = kinds[codes < 0]
    if len(unknown):
        raise RecipeError(
            f"{EVENTS} kinds: {len(unknown):,} rows are of another kind, the first of {unknown.iloc[0]!r}; name it "
            "(its weight may be 0) or drop them"
        )
    return codes.astype(np.int64)


def served_rows(part: Part, tasks: Tasks | None) -> Part:
    """Return the rows of the kind of event that is served, all if there is but one kind; raise RecipeError if none."""
    if tasks is None or tasks.events is None:
        return part
    is_served = event_codes(part.interactions, tasks.events) == tasks.events.kinds.index(tasks.events.served)
    if not is_served.any():
        raise RecipeError(
            f"{EVENTS} served: none of {len(is_served):,} validation rows is a {tasks.events.served!r}; "
            "serve another kind or change data.split"
        )
    return Part({name: values[is_served] for name, values in part.query.items()}, part.interactions[is_served])
