"""Cross layers: products of features that an MLP only approximates, before the tower's MLP or beside it.

DCN-v2: Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank
Systems", WWW 2021, arXiv:2008.13535.
"""

from __future__ import annotations

import merlin.models.tf as mm
import tensorflow as tf

from models.config import Cross, Model


def crossed(config: Model, cross: Cross) -> list[tf.keras.layers.Layer]:
    """Return what is between a tower's inputs and its vector: cross layers before the MLP, or beside it."""
    if cross.structure == "parallel":
        return [Parallel(config, cross)]
    return [cross_layers(cross), mlp(config)]


def mlp(config: Model) -> tf.keras.layers.Layer:
    """Return the tower's `MLPBlock`, whose last layer is linear."""
    return mm.MLPBlock(list(config.tower), no_activation_last_layer=True, dropout=config.hidden_dropout or None)


def cross_layers(cross: Cross) -> tf.keras.layers.Layer:
    """Return merlin-models' cross layers, float32 `[n, width]` to the same: x_{l+1} = x_0 * (W x_l + b) + x_l.

    With a rank, W is the product of a `[width, rank]` and a `[rank, width]` matrix.
    """
    return mm.CrossBlock(depth=cross.layers, low_rank_dim=cross.rank)


class Parallel(tf.keras.layers.Layer):
    """Cross layers and the hidden layers of the MLP on the same inputs; a linear layer makes one vector of both."""

    def __init__(self, config: Model, cross: Cross) -> None:
        super().__init__()
        *hidden, dim = config.tower
        self.cross = cross_layers(cross)
        self.deep = mm.MLPBlock(hidden, dropout=config.hidden_dropout or None)
        self.out = tf.keras.layers.Dense(dim)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return float32 `[n, d]` of float32 `[n, width]`."""
        return self.out(tf.concat([self.cross(inputs), self.deep(inputs, training=training)], axis=1))
