"""The two towers, from the feature specs: embeddings, `MLPBlock`, unit length if they are compared by cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import merlin.models.tf as mm
import numpy as np
import tensorflow as tf
from merlin.models.tf.models.base import RetrievalModelV2
from merlin.models.tf.outputs.base import DotProduct
from merlin.models.tf.transforms.regularization import L2Norm
from merlin.schema import ColumnSchema, Schema, Tags

from models.config import Model
from models.objective import Labels, Loss
from models.withholding import Withholding
from workflows.features import FeatureSpec

UNSEEN = 2
"""The code of a value that the vocabulary does not hold."""
LOWEST_TEMPERATURE = 0.01
"""Of a learned one: the logits of CLIP are at most 100 times the cosine."""


class FeatureEmbeddings(tf.keras.layers.Layer):
    """Features to one vector per row: embeddings of codes, their mean over lists, and numbers as they are.

    Inputs are dictionaries of int64 `[n]` codes, int64 `[n, length]` codes padded with 0, and float32 `[n]` numbers,
    and for a sequence the float32 `[n, length]` ages of its entries besides; the output is float32 `[n, width]`. Lists
    are dense and padded, unlike in `merlin.models.tf.InputBlockV2`, because ONNX has no ragged tensors and the served
    tower must be the trained one.

    While training, each scalar code becomes "unseen" with probability `unseen_rate`: nothing else would train the
    vector that unknown users and new items get.
    """

    def __init__(self, specs: Sequence[FeatureSpec], side: Tags, config: Model) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.schema = Schema([ColumnSchema(name, tags=[side]) for spec in specs for name in input_names(spec)])
        self.unseen_rate = config.unseen_rate
        self.tables = {
            spec.name: tf.keras.layers.Embedding(
                spec.cardinality, embedding_width(spec.cardinality, config.embedding_dim), name=f"{spec.name}_embedding"
            )
            for spec in specs
            if spec.cardinality
        }
        self.pooling = {spec.name: HistoryPooling(config) for spec in specs if spec.kind == "sequence"}

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Embed and concatenate the features, in the order of the specs."""
        return tf.concat([self._embed(spec, inputs, training) for spec in self.specs], axis=1)

    def _embed(self, spec: FeatureSpec, inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        values = inputs[spec.name]
        if spec.kind == "continuous":
            return values[:, tf.newaxis]
        table = self.tables[spec.name]
        if spec.kind == "sequence":
            return self.pooling[spec.name](values, inputs[f"{spec.name}_age"], table, training=training)
        if spec.kind == "list":
            present = tf.cast(values > 0, tf.float32)[:, :, tf.newaxis]
            return tf.reduce_sum(table(values) * present, axis=1) / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)
        if training and self.unseen_rate:
            dropped = tf.random.uniform(tf.shape(values)) < self.unseen_rate
            values = tf.where(dropped, tf.cast(UNSEEN, values.dtype), values)
        return table(values)


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
        present = tf.cast(codes > 0, tf.float32)
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
    """Return the tower inputs of a feature: its name, and for a sequence also the ages of its entries."""
    return [spec.name, f"{spec.name}_age"] if spec.kind == "sequence" else [spec.name]


def embedding_width(cardinality: int, dim: int) -> int:
    """Return the width of a table: `dim`, less for small vocabularies, which need no room to tell few values apart."""
    return min(dim, 8 * -(-cardinality // 8))


def build_tower(specs: Sequence[FeatureSpec], side: Tags, config: Model) -> mm.Encoder:
    """Build one tower: features -> embeddings -> dropout -> `MLPBlock` (linear last layer) [-> L2 normalisation]."""
    return mm.Encoder(
        FeatureEmbeddings(specs, side, config),
        tf.keras.layers.Dropout(config.dropout),
        mm.MLPBlock(list(config.tower), no_activation_last_layer=True, dropout=config.hidden_dropout or None),
        *([L2Norm()] if config.similarity == "cosine" else []),
        prep_features=False,
    )


class TwoTowerModel(RetrievalModelV2):
    """The merlin-models two-tower, trained by an objective of `models.objective`.

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
    """

    def __init__(
        self,
        query_specs: Sequence[FeatureSpec],
        item_specs: Sequence[FeatureSpec],
        catalogue: Mapping[str, np.ndarray],
        config: Model,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(
            query=build_tower(query_specs, Tags.USER, config),
            candidate=build_tower(item_specs, Tags.ITEM, config),
            output=DotProduct(),
        )
        self.catalogue = {name: tf.convert_to_tensor(_trimmed(values)) for name, values in catalogue.items()}
        self.withhold = Withholding(query_specs, config.withheld, input_names)
        self.loss_of_batch = loss
        self.fixed_temperature = config.temperature
        self.log_temperature = _log_temperature(config.temperature) if config.learn_temperature else None

    @property
    def temperature(self) -> float | tf.Tensor:
        """What similarities are divided by before the softmax, fixed or as learned so far."""
        return self.fixed_temperature if self.log_temperature is None else tf.exp(self.log_temperature)

    def query_vectors(self, features: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return the vectors of queries, float32 `[n, d]`, of unit length if the similarity is the cosine."""
        return self.query_encoder(self.withhold(features) if training else dict(features), training=training)

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        """Return the vectors of the whole catalogue, or of these items (int64 `[c]`) only, float32 `[items, d]`."""
        features = self.catalogue
        if items is not None:
            features = {name: tf.gather(values, items) for name, values in features.items()}
        return self.candidate_encoder(features, training=training)

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


def _trimmed(values: np.ndarray) -> np.ndarray:
    """Cut lists to the longest that there is: the item tower embeds the whole catalogue in every step."""
    if values.ndim == 1:
        return values
    return values[:, : max(1, int((values > 0).sum(axis=1).max(initial=0)))]
