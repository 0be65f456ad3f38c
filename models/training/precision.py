"""How a training computes, which is not what it learns: float16 in the towers' layers, towers compiled by XLA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import tensorflow as tf

Features = Mapping[str, tf.Tensor]


class Compute(NamedTuple):
    """What `[train]` says of it."""

    mixed_precision: bool = False
    xla: bool = False

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Let layers that are made in the block compute in float16, where that is wanted; their weights are float32.

        Mixed precision: Micikevicius et al., "Mixed Precision Training", ICLR 2018. Features and embeddings are made
        outside of it: ages in seconds overflow float16.
        """
        before = tf.keras.mixed_precision.global_policy()
        if self.mixed_precision:
            tf.keras.mixed_precision.set_global_policy("mixed_float16")
        yield
        tf.keras.mixed_precision.set_global_policy(before)

    def tower(self, encoder: Any) -> Callable[[Features], tf.Tensor]:
        """Return what encodes in training, float32 `[n, d]`."""

        def encode(features: Features) -> tf.Tensor:
            return tf.cast(encoder(features, training=True), tf.float32)

        return tf.function(encode, autograph=False, jit_compile=True) if self.xla else encode

    def optimizer(self, optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
        """Return the optimizer; in mixed precision it scales the loss, so that small gradients survive float16."""
        return tf.keras.mixed_precision.LossScaleOptimizer(optimizer) if self.mixed_precision else optimizer


PLAIN = Compute()


def copy_weights(source: Any, target: Any, query: Features) -> None:
    """Give a model that was just made the weights of another one; `query` is a row of features, to build it."""
    target.query_vectors(query)
    target.item_vectors(items=tf.constant([0], tf.int64))
    for side in ("query_encoder", "candidate_encoder"):
        for new, old in zip(getattr(target, side).variables, getattr(source, side).variables, strict=True):
            new.assign(old)
