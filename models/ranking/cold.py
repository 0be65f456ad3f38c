"""COLD: gated fields of query, item and both, low-rank cross layers beside a perceptron (Wang et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow as tf
from merlin.schema import Tags

from models.config import Model
from models.ranking import config
from models.ranking.crossing import Network
from models.ranking.model import Batch, Features, RankingModel, Sides
from models.ranking.selection import Field, Gates, Kind
from models.towers.dropout import Dropout
from models.towers.two_tower import FeatureEmbeddings, embedding_width
from workflows.features.plan import FIRST_ITEM
from workflows.features.stage import FeatureSpec

SIMILARITY, PRODUCT, ATTENTION = "similarity", "product", "attention"
"""Fields of query and candidate together."""


class Cold(RankingModel):
    """The network over fields.

    Parameters
    ----------
    kept
        Names of the fields that it has; by default all.
    selection
        Learn which are worth it: `gates` then has the probabilities.
    """

    def __init__(
        self,
        sides: Sides,
        settings: config.Cold,
        embedded: Model,
        pretrained: Mapping[str, np.ndarray] = MappingProxyType({}),
        scale: float = 1.0,
        field_names: Sequence[str] | None = None,
        selection: config.FieldSelection | None = None,
    ) -> None:
        super().__init__(sides, scale)
        self.fields = [
            field for field in fields_of(sides, embedded) if field_names is None or field.name in field_names
        ]
        names = {field.name for field in self.fields}
        self.tables = {
            spec.name: FeatureEmbeddings([spec], tag, embedded, pretrained)
            for specs, tag in ((sides.query, Tags.USER), (sides.item, Tags.ITEM))
            for spec in specs
            if spec.name in names
        }
        attended = {field.name: field for field in self.fields}.get(ATTENTION)
        self.keys = tf.keras.layers.Embedding(attended.codes, attended.width, name="keys") if attended else None
        self.history_name = next((spec.name for spec in sides.query if spec.kind == "sequence"), "")
        self.excitations = {field.name: Excitation() for field in self.fields}
        self.gates = Gates(self.fields, selection) if selection else None
        self.dropout = Dropout(settings.dropout)
        self.projections = {kind: tf.keras.layers.Dense(settings.width) for kind in ("query", "item")}
        self.network = Network(settings.cross_layers, settings.cross_rank, settings.layers)

    def query_side(self, features: Features, training: bool = False) -> tf.Tensor:
        """Return the gated fields of queries, projected, float32 `[n, width]`."""
        return self._embedded("query", features, training)

    def own_item_side(self, features: Features, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the gated fields of items, projected, and what the attention compares with a history."""
        fields = self._embedded("item", features, training)
        return tf.concat([fields, self.keys(items + FIRST_ITEM)], axis=1) if self.keys else fields

    def interaction(
        self, query: tf.Tensor, own: tf.Tensor, features: Features, product: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the network's scores, float32 `[n, m]`."""
        values, gates = {}, self._open("both", training)
        if self.keys:
            width = self.keys.output_dim
            own, queries = own[:, :, :-width], own[:, :, -width:]
            codes = features[self.history_name]
            values[ATTENTION] = queries * attended(queries, self.keys(codes), codes > 0)
        values[PRODUCT], values[SIMILARITY] = product, tf.reduce_sum(product, axis=2, keepdims=True)
        both = [self.excitations[name](values[name]) * gate for name, gate in gates.items()]
        return self.network(query[:, tf.newaxis, :], tf.concat([own, *both], axis=2))

    def regularisation(self, query: tf.Tensor, own: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the price of the open gates, a scalar."""
        return self.gates.prior() if self.gates else tf.constant(0.0)

    def _embedded(self, kind: Kind, features: Features, training: bool) -> tf.Tensor:
        embedded = [
            self.excitations[name](self.tables[name](features, training=training)) * gate
            for name, gate in self._open(kind, training).items()
        ]
        return self.projections[kind](self.dropout(tf.concat(embedded, axis=1), training=training))

    def _open(self, kind: Kind, training: bool) -> dict[str, tf.Tensor | float]:
        """Return how far the gates of a kind's fields are open, by name; without gates they are."""
        drawn = self.gates(self.bias, training=training) if self.gates else [1.0] * len(self.fields)
        return {field.name: drawn[place] for place, field in enumerate(self.fields) if field.kind == kind}


class Excitation(tf.keras.layers.Layer):
    """Weighs a field by one number that is made of it, between 0 and 1: COLD's squeeze and excitation."""

    def build(self, shape: tf.TensorShape) -> None:
        """Create the weights of one linear unit."""
        self.kernel = self.add_weight("kernel", shape=(int(shape[-1]),), initializer="zeros")
        self.bias = self.add_weight("bias", shape=(), initializer="zeros")

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Return the field, float32 `[..., w]`, times sigmoid(w . field + b)."""
        return values * tf.sigmoid(tf.reduce_sum(values * self.kernel, axis=-1, keepdims=True) + self.bias)


def attended(queries: tf.Tensor, keys: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Return every candidate's attention over a history, float32 `[n, m, w]`; zeros where there is none.

    `queries` float32 `[n, m, w]`, `keys` float32 `[n, length, w]`, `present` bool `[n, length]`. Target attention of
    the deep interest network (Zhou et al. 2018), with scaled inner products (Vaswani et al. 2017).
    """
    logits = tf.matmul(queries, tf.transpose(keys, [0, 2, 1])) / float(np.sqrt(queries.shape[-1]))
    mask = tf.cast(present, tf.float32)[:, tf.newaxis, :]
    shares = tf.exp(logits - tf.reduce_max(logits, axis=2, keepdims=True)) * mask
    return tf.matmul(shares, keys) / tf.maximum(tf.reduce_sum(shares, axis=2, keepdims=True), 1e-6)


def fields_of(sides: Sides, embedded: Model) -> list[Field]:
    """Return all fields that the network can have."""
    kinds: tuple[tuple[Kind, list[FeatureSpec]], ...] = (("query", sides.query), ("item", sides.item))
    fields = [
        Field(spec.name, kind, _width(spec, embedded), spec.cardinality) for kind, specs in kinds for spec in specs
    ]
    if sides.dim:
        fields += [Field(SIMILARITY, "both", 1), Field(PRODUCT, "both", sides.dim)]
    codes = [spec.cardinality for spec in sides.query if spec.kind == "sequence"]
    return [*fields, *(Field(ATTENTION, "both", embedded.embedding_dim, count) for count in codes)]


def _width(spec: FeatureSpec, embedded: Model) -> int:
    if not spec.cardinality:
        return spec.max_length or 1
    width = spec.pretrained or embedding_width(spec.cardinality, embedded.embedding_dim)
    return width * (1 + len(embedded.history_decay_seconds)) if spec.kind == "sequence" else width
