"""Exact search in TensorFlow: query vectors to item ids."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ensemble.release.raw_feeds import PADDING
from ensemble.serving.triton.tensors import NO_SCORE


class Items(tf.Module):
    """The items, with exact search over them.

    Parameters
    ----------
    vectors
        float32 `[items, d]`.
    ids
        int64 or `str` objects `[items]`, distinct.
    metric
        `inner_product`, `cosine` or `l2`, as the release's index.
    """

    def __init__(self, vectors: np.ndarray, ids: np.ndarray, metric: str) -> None:
        super().__init__()
        self.metric = metric
        if metric == "cosine":
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(lengths > 0, lengths, 1)
        self.vectors = tf.Variable(vectors, trainable=False, name="item_vectors")
        self.ids = tf.Variable(tf.constant(ids.tolist(), tf.string if ids.dtype == object else tf.int64))
        self.rows = table_of(ids, np.arange(len(ids)), -1)

    def best(self, queries: tf.Tensor, top_k: int, excluded: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Return the best items of float32 `[n, d]` queries, best first: `item_id`, `score` and `count`.

        `excluded`, ids `[n, m]`, are left out; unknown ids have no effect. Ties are broken by catalogue order. Past a
        row's `count`, int32 `[n]`, ids are `PADDING` and scores `NO_SCORE`.
        """
        scores = self._scores(queries)
        if excluded is not None:
            scores = self._without(scores, excluded)
        score, rows = tf.math.top_k(scores, min(top_k, self.vectors.shape[0]))
        real = score > -np.inf
        padding = PADDING[self.ids.dtype.name]
        return {
            "item_id": tf.where(real, tf.gather(self.ids, rows), tf.constant(padding, self.ids.dtype)),
            "score": tf.maximum(score, NO_SCORE),
            "count": tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
        }

    def _scores(self, queries: tf.Tensor) -> tf.Tensor:
        if self.metric == "cosine":
            queries = tf.math.divide_no_nan(queries, tf.norm(queries, axis=1, keepdims=True))
        products = tf.matmul(queries, self.vectors, transpose_b=True)
        if self.metric != "l2":
            return products
        squares = tf.reduce_sum(queries**2, axis=1, keepdims=True) + tf.reduce_sum(self.vectors**2, axis=1)
        return 2 * products - squares

    def _without(self, scores: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
        rows = self.rows.lookup(excluded)
        places = tf.where(rows >= 0)
        cells = tf.stack([places[:, 0], tf.gather_nd(rows, places)], axis=1)
        return tf.tensor_scatter_nd_update(scores, cells, tf.fill(tf.shape(cells)[:1], -np.inf))


def table_of(keys: np.ndarray, values: np.ndarray, default: int) -> tf.lookup.StaticHashTable:
    """Return a table from int64 or `str` keys `[n]` to int64 values, and to `default` for any other key."""
    dtype = tf.string if keys.dtype == object else tf.int64
    # An object array would be tried as numbers first.
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(keys.tolist(), dtype, shape=[len(keys)]), tf.constant(values, tf.int64)
    )
    return tf.lookup.StaticHashTable(initializer, default)
