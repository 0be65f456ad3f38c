"""What is made of a query's and an item's vector besides their inner product: a rating, and queries of other events."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.towers.stored_heads import FILE
from models.training.losses.task_config import EventTasks, Tasks


class Scale(NamedTuple):
    """How ratings are centred and divided: they have mean 0 and standard deviation 1 in the rows learned from."""

    mean: float
    deviation: float
    """1 where all are equal."""


class TaskHeads(tf.keras.layers.Layer):
    """The heads of the tasks, and the logarithms of the variances that weigh them where these are learned.

    Parameters
    ----------
    tasks
        What is learned.
    dim
        Width of the towers' vectors.
    unit
        Whether these are of unit length.
    scale
        Of the ratings; the head predicts them centred and divided.
    """

    def __init__(self, tasks: Tasks, dim: int, unit: bool, scale: Scale) -> None:
        super().__init__(name="task_heads")
        self.tasks, self.unit, self.scale = tasks, unit, scale
        self.maps = [_built(tf.keras.layers.Dense(dim, kernel_initializer="zeros"), dim) for _ in mapped(tasks.events)]
        hidden = tasks.rating.hidden if tasks.rating else ()
        widths = [3 * dim, *hidden]
        layers = [tf.keras.layers.Dense(width, "relu") for width in hidden]
        layers += [tf.keras.layers.Dense(1)] if tasks.rating else []
        self.layers_of_rating = [_built(layer, width) for layer, width in zip(layers, widths, strict=bool(layers))]
        self.log_variances = None
        if tasks.weighting == "uncertainty":
            self.log_variances = self.add_weight("log_variances", shape=(len(tasks.terms),), initializer="zeros")

    def asked(self, queries: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
        """Return the vectors that retrieve the items of events, float32 `[n, d]`.

        `queries` float32 `[n, d]` are those of the tower, `events` int64 `[n]` numbers of kinds.
        """
        task = self.tasks.events
        if task is None or not self.maps:
            return queries
        heads = dict(zip(mapped(task), self.maps, strict=True))
        vectors = [self._mapped(queries, heads[kind]) if kind in heads else queries for kind in task.kinds]
        return tf.gather(tf.stack(vectors, axis=1), events, batch_dims=1)

    def _mapped(self, queries: tf.Tensor, head: tf.keras.layers.Layer) -> tf.Tensor:
        moved = queries + head(queries)
        return tf.math.l2_normalize(moved, axis=1) if self.unit else moved

    def rating(self, queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Return ratings as they are learned, centred and divided, float32 `[n]`, of float32 `[n, d]` vectors."""
        values = tf.concat([queries, items, queries * items], axis=1)
        for layer in self.layers_of_rating:
            values = layer(values)
        return values[:, 0]

    def save(self, out: Path) -> None:
        """Write `tasks.npz`, which `StoredHeads` reads."""
        events, log_variances = self.tasks.events, self.log_variances
        arrays: dict[str, np.ndarray] = {"unit": np.array(self.unit), "scale": np.array(self.scale)}
        for number, layer in enumerate(self.layers_of_rating):
            kernel, bias = layer.weights
            arrays |= {f"rating.{number}.kernel": kernel.numpy(), f"rating.{number}.bias": bias.numpy()}
        if events:
            arrays |= {"kinds": np.array(events.kinds), "served": np.array(events.served)}
        for kind, layer in zip(mapped(events), self.maps, strict=True):
            kernel, bias = layer.weights
            arrays |= {f"event.{kind}.kernel": kernel.numpy(), f"event.{kind}.bias": bias.numpy()}
        if log_variances is not None:
            arrays |= {"terms": np.array(self.tasks.terms), "log_variances": log_variances.numpy()}
        np.savez(out / FILE, **arrays)


def mapped(events: EventTasks | None) -> list[str]:
    """Return the kinds of events that have a head."""
    return [kind for kind in events.kinds if kind != events.served] if events and events.heads else []


def _built(layer: tf.keras.layers.Layer, width: int) -> tf.keras.layers.Layer:
    layer.build((None, width))
    return layer
