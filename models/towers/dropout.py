"""Dropout by 16 random bits a number, half the time of Keras' by 32 that become a float first."""

from __future__ import annotations

from typing import Final

import tensorflow as tf

_VALUES: Final = 1 << 16
"""Of 16 bits."""


class Dropout(tf.keras.layers.Dropout):
    """Keras' dropout, its rate to the next of 65,536 parts."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the inputs, of any shape; in training some of them as 0, and the others larger to make up for it."""
        dropped = round(self.rate * _VALUES)
        if not training or not dropped:
            return inputs
        count, seed = tf.size(inputs), tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        bits = tf.random.stateless_uniform([count // 2 + 1], seed, minval=None, maxval=None, dtype=tf.int32)
        drawn = tf.reshape(tf.reshape(tf.bitcast(bits, tf.int16), [-1])[:count], tf.shape(inputs))
        kept = tf.cast(drawn >= tf.cast(dropped - _VALUES // 2, tf.int16), inputs.dtype)
        return inputs * (kept * (_VALUES / (_VALUES - dropped)))
