"""The two towers, from the feature specs: embeddings, `MLPBlock`, unit length if they are compared by cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import merlin.models.tf as mm
import numpy as np
import tensorflow as tf
from merlin.models.tf.models.base import RetrievalModelV2
from merlin.models.tf.outputs.base import DotProduct
from merlin.models.tf.transforms.regularization import L2Norm
from merlin.schema import ColumnSchema, Schema, Tags

from models.config import Cross, Gates, Model, Side
from models.towers.augmentation import augmented_vectors
from models.towers.cross import crossed, mlp
from models.towers.dropout import Dropout
from models.towers.gates import FieldGates
from models.towers.heads import TaskHeads
from models.towers.withholding import Withholding
from models.training.losses.objective import Labels, Loss
from models.training.precision import PLAIN, Compute
from workflows.features.stage import FeatureSpec

UNSEEN = 2
"""The code of a value that the vocabulary does not hold."""
LOWEST_TEMPERATURE = 0.01
"""Of a learned one: the logits of CLIP are at most 100 times the cosine."""


class FeatureEmbeddings(tf.keras.layers.Layer):
    """Features to one vector per row: embeddings of codes, their mean over lists, and numbers and vectors as they are.

    Inputs are dictionaries of int64 `[n]` codes, int64 `[n, length]` codes padded with 0, float32 `[n]` numbers and
    `[n, width]` vectors, and for a sequence the float32 `[n, length]` ages of its entries besides, for a weighted list
    their weights; the output is float32 `[n, width]`. Lists are dense and padded, unlike in
    `merlin.models.tf.InputBlockV2`, because ONNX has no ragged tensors and the served tower must be the trained one.
    Features of one vocabulary have one table.

    While training, each scalar code becomes "unseen" with probability `unseen_rate`: nothing else would train the
    vector that unknown users and new items get.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        side: Tags,
        config: Model,
        pretrained: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.schema = Schema([ColumnSchema(name, tags=[side]) for spec in specs for name in input_names(spec)])
        self.unseen_rate = config.unseen_rate
        owners = {table_of(spec): spec for spec in specs if spec.cardinality}
        self.tables = {name: _table(name, spec, config, pretrained) for name, spec in owners.items()}
        self.pooling = {spec.name: HistoryPooling(config) for spec in specs if spec.kind == "sequence"}
        self.augmented = augmented_vectors(specs, _side(side), config)
        self.gates = FieldGates(config.gates, len(specs)) if config.gates and _has(config.gates, side) else None

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Embed and concatenate the features, in the order of the specs."""
        fields = [self._embed(spec, inputs, training) for spec in self.specs]
        return tf.concat(self.gates(fields) if self.gates else fields, axis=1)

    def augmented_vectors(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return what stands in for the other tower, float32 `[n, d]`; a row's id is unseen as often as in training."""
        assert self.augmented is not None, "asked for by the loss of the same recipe"
        return self.augmented(self._codes(inputs[self.augmented.feature], training=True))

    def _embed(self, spec: FeatureSpec, inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        values = inputs[spec.name]
        if spec.kind in ("continuous", "vector"):
            return values if spec.kind == "vector" else values[:, tf.newaxis]
        table = self.tables[table_of(spec)]
        if spec.kind == "sequence":
            return self.pooling[spec.name](values, inputs[f"{spec.name}_age"], table, training=training)
        if spec.kind == "list":
            return _mean(table(values), _present(values))
        if spec.kind == "weighted-list":
            return _mean(table(values), inputs[f"{spec.name}_weight"] * _present(values))
        values = self._codes(values, training)
        if self.augmented and spec.name == self.augmented.feature:
            return tf.concat([table(values), self.augmented(values)], axis=1)
        return table(values)

    def _codes(self, values: tf.Tensor, training: bool) -> tf.Tensor:
        if training and self.unseen_rate:
            dropped = tf.random.uniform(tf.shape(values)) < self.unseen_rate
            values = tf.where(dropped, tf.cast(UNSEEN, values.dtype), values)
        return values


class HistoryPooling(tf.keras.layers.Layer):
    """A user's past items to one vector: their mean, and their means weighted by exp(-age / decay), decays learned.

    The weights of each mean add up to one, or to less where everything is older than some twenty decays, so that
    an old history fades instead of looking fresh.
    """

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.decays, self.rate = config.history_decay_seconds, config.history_dropout

    def build(self, input_shape: object) -> None:
        """Create the logarithms of the decays, one weight each."""
        start = tf.keras.initializers.Constant(np.log(self.decays))
        self.log_decays = self.add_weight("log_decays", shape=(len(self.decays),), initializer=start)

    def call(
        self, codes: tf.Tensor, ages: tf.Tensor, table: tf.keras.layers.Layer, training: bool = False
    ) -> tf.Tensor:
        """Pool int64 `[n, length]` codes, padded with 0, of float32 `[n, length]` ages in seconds."""
        present = _present(codes)
        if training and self.rate:
            present *= tf.cast(tf.random.uniform(tf.shape(codes)) >= self.rate, tf.float32)
        weights = present[:, tf.newaxis, :]
        if self.decays:  # a tensor without elements would not survive the export
            recency = tf.exp(-ages[:, tf.newaxis, :] / tf.exp(self.log_decays)[:, tf.newaxis])
            weights = tf.concat([weights, recency * weights], axis=1)
        weights /= tf.maximum(tf.reduce_sum(weights, axis=2, keepdims=True), 1e-6)
        means = tf.matmul(weights, table(codes))
        return tf.reshape(means, [-1, (1 + len(self.decays)) * table.output_dim])


def input_names(spec: FeatureSpec) -> list[str]:
    """Return the tower inputs of a feature: its name, and besides the ages of a sequence or the weights of a list."""
    second = {"sequence": [f"{spec.name}_age"], "weighted-list": [f"{spec.name}_weight"]}
    return [spec.name, *second.get(spec.kind, [])]


def table_of(spec: FeatureSpec) -> str:
    """Return the name of a feature's embedding table: its vocabulary's, or its own."""
    return f"{spec.table}.shared" if spec.table else spec.name


def embedding_width(cardinality: int, dim: int) -> int:
    """Return the width of a table: `dim`, less for small vocabularies, which need no room to tell few values apart."""
    return min(dim, 8 * -(-cardinality // 8))


def _side(tag: Tags) -> Side:
    return "query" if tag == Tags.USER else "item"


def _has(choice: Cross | Gates | None, tag: Tags) -> bool:
    return choice is not None and _side(tag) in choice.towers


def build_tower(
    specs: Sequence[FeatureSpec],
    side: Tags,
    config: Model,
    pretrained: Mapping[str, np.ndarray],
    compute: Compute = PLAIN,
) -> mm.Encoder:
    """Build one tower: features -> embeddings [-> gates] -> dropout [-> cross layers] -> `MLPBlock` (linear last layer)
    [-> L2 normalisation]; cross layers may also be beside the `MLPBlock`."""
    embeddings = FeatureEmbeddings(specs, side, config, pretrained)
    dropout = Dropout(config.dropout)
    with compute.layers():
        layers = crossed(config, config.cross) if config.cross and _has(config.cross, side) else [mlp(config)]
    normalised = [L2Norm()] if config.similarity == "cosine" else []
    return mm.Encoder(embeddings, dropout, *layers, *normalised, prep_features=False)


class TwoTowerModel(RetrievalModelV2):
    """The merlin-models two-tower, trained by an objective of `models.training.losses.objective`.

    What `mm.TwoTowerModelV2` builds, with an objective of ours: the stock one scores in-batch negatives only and
    divides its sampling correction by the temperature.

    Parameters
    ----------
    query_specs, item_specs
        What each tower is fed.
    catalogue
        The features of every item, in `item_index` order: `{name: [items] or [items, length]}`.
    config
        Widths, dropout, similarity and temperature.
    loss
        What a training step minimises; a model that is not trained needs none.
    pretrained
        Tables to start from by feature, float32 `[cardinality, width]`; a model whose weights are loaded needs none.
    compute
        How it is trained.
    """

    def __init__(
        self,
        query_specs: Sequence[FeatureSpec],
        item_specs: Sequence[FeatureSpec],
        catalogue: Mapping[str, np.ndarray],
        config: Model,
        loss: Loss | None = None,
        pretrained: Mapping[str, np.ndarray] = MappingProxyType({}),
        compute: Compute = PLAIN,
    ) -> None:
        super().__init__(
            query=build_tower(query_specs, Tags.USER, config, pretrained, compute),
            candidate=build_tower(item_specs, Tags.ITEM, config, pretrained, compute),
            output=DotProduct(),
        )
        self._trained_query, self._trained_items = (
            compute.tower(encoder) for encoder in (self.query_encoder, self.candidate_encoder)
        )
        trimmed = (feature for spec in item_specs for feature in _trimmed(spec, catalogue))
        self.catalogue = {name: tf.convert_to_tensor(values) for name, values in trimmed}
        self.withhold = Withholding(query_specs, config.withheld, input_names)
        self.loss_of_batch = loss
        self.heads: TaskHeads | None = None
        """What the other tasks make of the vectors, trained along."""
        self.fixed_temperature = config.temperature
        self.log_temperature = _log_temperature(config.temperature) if config.learn_temperature else None

    @property
    def temperature(self) -> float | tf.Tensor:
        """What similarities are divided by before the softmax, fixed or as learned so far."""
        return self.fixed_temperature if self.log_temperature is None else tf.exp(self.log_temperature)

    def query_vectors(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the vectors of queries, float32 `[n, d]`, of unit length if the similarity is the cosine."""
        if training:
            return self._trained_query(self.withhold(features))
        return tf.cast(self.query_encoder(dict(features), training=False), tf.float32)

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors of the whole catalogue, or of these items (int64 `[c]`) only, float32 `[items, d]`."""
        features = self.item_features(items)
        if training:
            return self._trained_items(features)
        return tf.cast(self.candidate_encoder(features, training=False), tf.float32)

    def item_features(self, items: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Return the inputs of the item tower for the whole catalogue, or for these items (int64 `[c]`) only."""
        if items is None:
            return dict(self.catalogue)
        return {name: tf.gather(values, items) for name, values in self.catalogue.items()}

    def augmented_queries(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return the augmented vectors of queries as training sees them, float32 `[n, d]`."""
        return self.query_encoder.blocks[0].augmented_vectors(features)

    def augmented_items(self, items: tf.Tensor) -> tf.Tensor:
        """Return the augmented vectors of items (int64 `[n]`) as training sees them, float32 `[n, d]`."""
        return self.candidate_encoder.blocks[0].augmented_vectors(self.item_features(items))

    def train_step(self, data: tuple[Mapping[str, tf.Tensor], Labels]) -> dict[str, tf.Tensor]:
        """Take one optimiser step on a batch."""
        features, labels = data
        if self.loss_of_batch is None:
            raise ValueError("a model that was made without a loss cannot be trained")
        with tf.GradientTape() as tape:
            loss = self.loss_of_batch(self, features, labels)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return {"loss": loss} if self.log_temperature is None else {"loss": loss, "temperature": self.temperature}


def _log_temperature(start: float) -> tf.Variable:
    return tf.Variable(
        np.float32(np.log(start)),
        name="log_temperature",
        constraint=lambda value: tf.maximum(value, np.float32(np.log(LOWEST_TEMPERATURE))),
    )


def _table(
    name: str, spec: FeatureSpec, config: Model, pretrained: Mapping[str, np.ndarray]
) -> tf.keras.layers.Embedding:
    """Return an embedding table, from pre-trained vectors where the feature has some."""
    if not spec.pretrained:
        width = embedding_width(spec.cardinality, config.embedding_dim)
        return tf.keras.layers.Embedding(spec.cardinality, width, name=f"{name}_embedding")
    start = tf.keras.initializers.Constant(pretrained[name]) if name in pretrained else "zeros"
    return tf.keras.layers.Embedding(
        spec.cardinality,
        spec.pretrained,
        embeddings_initializer=start,
        trainable=spec.trainable,
        name=f"{name}_embedding",
    )


def _present(codes: tf.Tensor) -> tf.Tensor:
    """Return 1 for what is no padding, float32."""
    return tf.cast(codes > 0, tf.float32)


def _mean(vectors: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the mean of `[n, length, d]` vectors by `[n, length]` weights; zeros where these have no positive sum."""
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    shares = weights * tf.cast(total > 0, tf.float32) / tf.where(total > 0, total, 1.0)
    return tf.matmul(shares[:, tf.newaxis], vectors)[:, 0]


def _trimmed(spec: FeatureSpec, catalogue: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Return a feature's arrays, lists cut to the places that are used: every step embeds the whole catalogue."""
    values = catalogue[spec.name]
    if values.ndim == 1 or spec.kind == "vector":
        return [(spec.name, values)]
    used = np.flatnonzero((values > 0).any(axis=0))
    used_columns = slice(used[0], used[-1] + 1) if len(used) else slice(1)
    return [(name, catalogue[name][:, used_columns]) for name in input_names(spec)]
