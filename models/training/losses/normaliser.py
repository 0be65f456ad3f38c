"""The normalisers of a softmax over items that all rows share, and their gradients, some rows at a time.

The logits of 8,192 rows and 10,240 items take 335 MB, and differentiating the softmax op by op makes ten such arrays.
Here a block of rows is multiplied, normalised and multiplied back while it is in the cache, as in FlashAttention (Dao
et al. 2022), and once in all: the gradient of a sum whose weights are known needs no second pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import tensorflow as tf

from models.config import SOFTMAX_BLOCK

ON_GPU: Final = 1 << 27
"""Logits of a block that keeps a GPU busy."""
LEAST: Final = float(np.finfo(np.float32).tiny)
"""Of a probability: a row's loss is at most 87."""


def sum_of_normalisers(
    queries: tf.Tensor, items: tf.Tensor, weights: tf.Tensor, own: tf.Tensor, log_counts: tf.Tensor | None = None
) -> tf.Tensor:
    """Return the weighted sum of the rows' log-normalisers, float32, a scalar.

    That of row i is `log(sum over j of c(i, j) * exp(queries[i] . items[j]))`, where `c(i, j)` is 1, or
    `exp(log_counts[j])` for all but the row's own item. Gradients reach `queries` and `items`. It is found by the
    probability of the row's own item, which counts as LEAST where it is less.

    Parameters
    ----------
    queries, items
        float32 `[n, d]` and `[c, d]`; the items are distinct.
    weights
        float32 `[n]`.
    own
        int32 `[n]`: where each row's own item is, which stands for itself.
    log_counts
        Of items that are a sample, float32 `[c]`: the logarithm of how many of the catalogue's items one stands for;
        -inf leaves it out.
    """

    @tf.custom_gradient
    def summed(queries: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        total, to_queries, to_items = _blockwise(queries, items, weights, own, log_counts)
        return total, lambda upstream: (upstream * to_queries, upstream * to_items)

    return summed(queries, items)


def _blockwise(
    queries: tf.Tensor, items: tf.Tensor, weights: tf.Tensor, own: tf.Tensor, log_counts: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the sum and its gradients: a scalar, float32 `[n, d]` and `[c, d]`."""
    rows, width = tf.shape(queries)[0], queries.shape[1]
    budget = ON_GPU if tf.config.list_physical_devices("GPU") else SOFTMAX_BLOCK
    most = tf.maximum(1, budget // tf.shape(items)[0])
    step = -(-rows // -(-rows // most))  # even blocks: a remainder, of another shape, takes a third longer
    blocks = -(-rows // step)
    logits_of = _logits(items, own, log_counts)

    def block(
        number: tf.Tensor, total: tf.Tensor, to_queries: tf.TensorArray, to_items: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.Tensor]:
        part = slice(number * step, (number + 1) * step)
        block_queries, weight = queries[part], weights[part]
        places = tf.stack([tf.range(tf.size(weight)), own[part]], axis=1)
        logits = logits_of(block_queries, part, places)
        probabilities = tf.nn.softmax(logits)
        own_logits, chance = (tf.gather_nd(values, places) for values in (logits, probabilities))
        total += tf.reduce_sum(weight * (own_logits - tf.math.log(tf.maximum(chance, LEAST))))
        to_queries = to_queries.write(number, tf.matmul(probabilities, items) * weight[:, tf.newaxis])
        to_items += tf.matmul(probabilities, block_queries * weight[:, tf.newaxis], transpose_a=True)
        return number + 1, total, to_queries, to_items

    pieces = tf.TensorArray(tf.float32, blocks, element_shape=[None, width], infer_shape=False)
    start = tf.constant(0), tf.constant(0.0), pieces, tf.zeros_like(items)
    _, total, to_queries, to_items = tf.while_loop(
        lambda number, *_: number < blocks, block, start, parallel_iterations=1
    )
    return total, tf.ensure_shape(to_queries.concat(), [None, width]), to_items


def _logits(
    items: tf.Tensor, own: tf.Tensor, log_counts: tf.Tensor | None
) -> Callable[[tf.Tensor, slice, tf.Tensor], tf.Tensor]:
    """Return what makes logits, float32 `[k, c]`, of a block of queries, `[k, d]`, its part of all rows and the places
    of their own items, int32 `[k, 2]`."""
    if log_counts is None:
        return lambda queries, part, places: tf.matmul(queries, items, transpose_b=True)
    own_counts = tf.gather(log_counts, own)
    biased = tf.concat([items, log_counts[:, tf.newaxis]], axis=1)  # adds the logarithms within the product

    def logits(queries: tf.Tensor, part: slice, places: tf.Tensor) -> tf.Tensor:
        products = tf.matmul(tf.concat([queries, tf.ones_like(queries[:, :1])], axis=1), biased, transpose_b=True)
        return tf.tensor_scatter_nd_sub(products, places, own_counts[part])

    return logits
