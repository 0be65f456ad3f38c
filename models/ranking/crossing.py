"""Cross layers and a perceptron over two parts: one that is a query's, one that is each candidate's.

What is linear in the query's part is computed once for all candidates, and nothing is copied for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from models.ranking.model import projected

Parts = tuple[tf.Tensor, tf.Tensor]
"""Float32 `[n, 1, q]` or `[n, m, q]`, and float32 `[n, m, p]`."""


class _Linear(tf.keras.layers.Layer):
    """A linear map of both parts together, with a bias."""

    def __init__(self, units: int, bias: bool = True) -> None:
        super().__init__()
        self.units, self.with_bias = units, bias

    def build(self, shapes: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Create a matrix for each part, drawn as if they were one."""
        total = sum(int(shape[-1]) for shape in shapes)
        start = tf.keras.initializers.RandomUniform(*(sign * (6 / (total + self.units)) ** 0.5 for sign in (-1, 1)))
        self.matrices = [
            self.add_weight(f"kernel_{place}", shape=(int(shape[-1]), self.units), initializer=start)
            for place, shape in enumerate(shapes)
        ]
        self.bias = self.add_weight("bias", shape=(self.units,), initializer="zeros") if self.with_bias else 0.0

    def call(self, parts: Parts) -> tf.Tensor:
        """Return float32 `[n, m, units]`, or `[n, 1, units]` of parts without candidates."""
        first, second = self.matrices
        return projected(parts[0], first) + projected(parts[1], second) + self.bias


class CrossLayer(tf.keras.layers.Layer):
    """x0 * (U V'x + b) + x, a low-rank cross layer (DCN V2, Wang et al., WWW 2021), part by part."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.low = _Linear(rank, bias=False)

    def build(self, shapes: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Create U and b of each part."""
        self.up = [
            self.add_weight(f"up_{place}", shape=(self.low.units, int(shape[-1]))) for place, shape in enumerate(shapes)
        ]
        self.biases = [
            self.add_weight(f"bias_{place}", shape=(int(shape[-1]),), initializer="zeros")
            for place, shape in enumerate(shapes)
        ]

    def call(self, start: Parts, parts: Parts) -> Parts:
        """Cross `parts` with what the network started from."""
        low = self.low(parts)
        query, candidate = (
            start[place] * (projected(low, self.up[place]) + self.biases[place]) + parts[place] for place in (0, 1)
        )
        return query, candidate


class Network(tf.keras.layers.Layer):
    """Cross layers beside a perceptron, then one linear layer over both."""

    def __init__(self, cross_layers: int, rank: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.crosses = [CrossLayer(rank) for _ in range(cross_layers)]
        self.first = _Linear(layers[0])
        self.others = [tf.keras.layers.Dense(width, "relu") for width in layers[1:]]
        self.crossed, self.deep = _Linear(1, bias=False), tf.keras.layers.Dense(1, use_bias=False)

    def call(self, query: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Return scores, float32 `[n, m]`, of float32 `[n, 1, q]` and `[n, m, p]`."""
        start = parts = query, candidates
        for cross in self.crosses:
            parts = cross(start, parts)
        hidden = tf.nn.relu(self.first(start))
        places = tf.shape(candidates)[1]
        flat = tf.reshape(hidden, [-1, self.first.units])
        for layer in self.others:
            flat = layer(flat)
        deep = tf.reshape(self.deep(flat), [-1, places])
        return tf.squeeze(self.crossed(parts), axis=2) + deep
