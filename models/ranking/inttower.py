"""IntTower: every layer of the query tower meets the last one of the item tower (Li et al., CIKM 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import tensorflow as tf
from merlin.schema import Tags

from models.config import Model
from models.ranking import config
from models.ranking.model import Batch, Features, RankingModel, Sides
from models.towers.dropout import Dropout
from models.towers.two_tower import FeatureEmbeddings


class IntTower(RankingModel):
    """Multi-head late interaction, layer by layer, and contrastive regularisation."""

    def __init__(
        self,
        sides: Sides,
        settings: config.IntTower,
        embedded: Model,
        pretrained: Mapping[str, np.ndarray] = MappingProxyType({}),
        scale: float = 1.0,
    ) -> None:
        super().__init__(sides, scale)
        self.settings = settings
        self.query_embedded = FeatureEmbeddings(sides.query, Tags.USER, embedded, pretrained)
        self.item_embedded = FeatureEmbeddings(sides.item, Tags.ITEM, embedded, pretrained)
        self.dropout = Dropout(settings.dropout)
        width = settings.heads * settings.head_dim
        self.query_layers = [tf.keras.layers.Dense(units, "relu") for units in settings.layers]
        self.item_layers = [tf.keras.layers.Dense(units, "relu") for units in settings.layers]
        self.query_heads = [tf.keras.layers.Dense(width) for _ in settings.layers]
        self.item_heads = tf.keras.layers.Dense(width)

    def query_side(self, features: Features, training: bool = False) -> tf.Tensor:
        """Return the heads of every layer, float32 `[n, layers * heads, head_dim]`, the last layer's last."""
        hidden, vectors = self.dropout(self.query_embedded(features, training=training), training=training), []
        for layer, heads in zip(self.query_layers, self.query_heads, strict=True):
            hidden = layer(hidden)
            vectors.append(heads(hidden))
        return tf.reshape(tf.concat(vectors, axis=1), [-1, len(vectors) * self.settings.heads, self.settings.head_dim])

    def own_item_side(self, features: Features, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the items' heads, float32 `[items, heads * head_dim]`."""
        hidden = self.dropout(self.item_embedded(features, training=training), training=training)
        for layer in self.item_layers:
            hidden = layer(hidden)
        return self.item_heads(hidden)

    def interaction(
        self, query: tf.Tensor, own: tf.Tensor, features: Features, product: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the sum over layers and query heads of the largest inner product with one of the item's heads."""
        heads, dim = self.settings.heads, self.settings.head_dim
        items = tf.reshape(own, [-1, tf.shape(own)[1] * heads, dim])
        every = tf.matmul(items, tf.transpose(query, [0, 2, 1]))
        every = tf.reshape(every, [-1, tf.shape(own)[1], heads, query.shape[1]])
        return tf.reduce_sum(tf.reduce_max(every, axis=2), axis=2)

    def regularisation(self, query: tf.Tensor, own: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the contrastive term: each row's own item, its first candidate, against those of the other rows."""
        if not self.settings.contrastive_weight:
            return tf.constant(0.0)
        last = tf.reshape(query[:, -self.settings.heads :], [-1, self.settings.heads * self.settings.head_dim])
        losses = contrastive(last, own[:, 0], batch.items[:, 0], self.settings.contrastive_temperature)
        positive = batch.labels[:, 0]
        return self.settings.contrastive_weight * tf.reduce_sum(losses * positive) / tf.reduce_sum(positive)


def contrastive(queries: tf.Tensor, items: tf.Tensor, index: tf.Tensor, temperature: float) -> tf.Tensor:
    """Return each row's cross-entropy of its own item in the softmax of cosines with the batch's items, float32 `[n]`.

    `queries` and `items` float32 `[n, d]`; `index` int64 `[n]` are the items' indices: another row's equal item is no
    negative. IntTower's contrastive interaction regularisation, with the batch's items as negatives.
    """
    queries, items = tf.math.l2_normalize(queries, axis=1), tf.math.l2_normalize(items, axis=1)
    logits = tf.matmul(queries, items, transpose_b=True) / temperature
    same = (index[:, tf.newaxis] == index) & ~tf.eye(tf.size(index), dtype=tf.bool)
    return tf.reduce_logsumexp(tf.where(same, -np.inf, logits), axis=1) - tf.linalg.diag_part(logits)
