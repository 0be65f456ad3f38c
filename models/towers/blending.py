"""A simple model's factors beside the vectors of a tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from models.config import Side
from models.metrics import Float32Array
from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSpec

_FILE: Final = "factors.npz"
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


class WithFactors(tf.keras.layers.Layer):
    """A trained tower's vectors, `share` times, and behind them the factors of the row's user or item.

    Parameters
    ----------
    tower
        Its input is that of `models.towers.two_tower.FeatureEmbeddings`, its output float32 `[n, d]`.
    spec
        The feature by whose codes the factors are looked up.
    factors
        float32 `[codes, width]`.
    """

    def __init__(self, tower: tf.keras.layers.Layer, spec: FeatureSpec, factors: Float32Array, share: float) -> None:
        super().__init__()
        self.tower, self.spec, self.share = tower, spec, share
        start = tf.keras.initializers.Constant(factors)
        self.factors = self.add_weight("factors", shape=factors.shape, initializer=start, trainable=False)

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return float32 `[n, d + width]`, whether in training or not: a blend is not trained."""
        vectors = self.share * tf.cast(self.tower(inputs, training=False), tf.float32)
        codes = tf.cast(inputs[self.spec.name], tf.int64)  # Keras infers shapes with float32 in place of every input
        return tf.concat([vectors, tf.gather(self.factors, codes)], axis=1)


class BlendedTowers:
    """Trained towers with factors of users and items beside their vectors: what is served of a blend.

    Parameters
    ----------
    towers
        A `models.towers.two_tower.TwoTowerModel`.
    query_factors, item_factors
        float32 `[user codes, width]` and `[item codes, width]`.
    share
        How much the towers' own scores count.
    """

    def __init__(self, towers: Any, query_factors: Float32Array, item_factors: Float32Array, share: float) -> None:
        self.towers, self.catalogue = towers, towers.catalogue
        self._stored = {"query": query_factors, "item": item_factors, "share": np.asarray(share, np.float32)}
        query, item = towers.query_encoder, towers.candidate_encoder
        self.query_encoder = WithFactors(query, id_feature(query.blocks[0].specs, "query"), query_factors, share)
        self.candidate_encoder = WithFactors(item, id_feature(item.blocks[0].specs, "item"), item_factors, share)

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """Return what was trained: the towers' weights."""
        return list(self.towers.trainable_variables)

    def query_vectors(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the vectors of queries, float32 `[n, d + width]`."""
        return self.query_encoder(dict(features))

    def item_vectors(self, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors of the whole catalogue, or of these items (int64 `[c]`) only, float32 `[c, d + width]`."""
        return self.candidate_encoder(self.towers.item_features(items))

    def save(self, directory: Path) -> None:
        """Write the factors to a directory of towers."""
        np.savez(directory / _FILE, **self._stored)

    @classmethod
    def load(cls, towers: Any, directory: Path) -> BlendedTowers | None:
        """Return towers with the factors that a directory has; None where it has none."""
        if not (directory / _FILE).exists():
            return None
        with np.load(directory / _FILE, allow_pickle=False) as stored:
            return cls(towers, stored["query"], stored["item"], float(stored["share"]))
