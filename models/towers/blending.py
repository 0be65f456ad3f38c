"""A simple model's factors beside the vectors of a tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.config import Blend, Side
from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSpec

_IDS = {"query": Columns.User, "item": Columns.Item}


def id_feature(specs: Sequence[FeatureSpec], side: Side) -> FeatureSpec:
    """Return the categorical feature that tells users or items apart.

    Raises
    ------
    RecipeError
        There is none.
    """
    for spec in specs:
        if spec.kind == "categorical" and spec.source == _IDS[side]:
            return spec
    raise RecipeError(
        f'[model.blend] needs the id among [{side}.features]: {_IDS[side]} = {{ kind = "categorical" }}; '
        "or leave the blend out"
    )


def factor_width(blend: Blend | None, query_specs: Sequence[FeatureSpec], item_specs: Sequence[FeatureSpec]) -> int:
    """Return how many numbers the factors have, 0 without a blend."""
    if blend is None:
        return 0
    return blend.width(id_feature(query_specs, "query").cardinality, id_feature(item_specs, "item").cardinality)


class Beside(tf.keras.layers.Layer):
    """The factors of a row's user or item, float32 `[n, width]`: zeros until they are set, after the training."""

    def __init__(self, specs: Sequence[FeatureSpec], side: Side, width: int) -> None:
        super().__init__()
        self.spec, self.width = id_feature(specs, side), width
        shape = (self.spec.cardinality, width)
        self.factors = self.add_weight("factors", shape=shape, initializer="zeros", trainable=False)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Look the factors up by code."""
        codes = tf.cast(inputs[self.spec.name], tf.int64)  # Keras infers shapes with float32 in place of every input
        return tf.gather(self.factors, codes)


class Blended(tf.keras.layers.Layer):
    """A tower's layers on all inputs but the last `width`, which are factors: these stand behind its vector.

    In training neither inputs nor vectors have factors. What is served is `share` times the tower's vector, and the
    factors.
    """

    def __init__(self, layers: Sequence[Any], width: int) -> None:
        super().__init__()
        self.layers, self.width = list(layers), width
        self.share = self.add_weight("share", shape=(), initializer="ones", trainable=False)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return float32 `[n, d]` in training and `[n, d + width]` otherwise."""
        vectors = inputs if training else inputs[:, : -self.width]
        for layer in self.layers:
            vectors = layer(vectors, training=training)
        if training:
            return vectors
        return tf.concat([self.share * tf.cast(vectors, tf.float32), inputs[:, -self.width :]], axis=1)
