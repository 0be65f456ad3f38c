"""Cross layers, gates and augmented vectors are their formulas, in NumPy; and what a recipe may ask of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import tensorflow as tf

from models.config import Augmentation, Cross, Gates, Model, Objective, Sampled
from models.towers.augmentation import AugmentedLoss, alignment_loss, augmented_vectors, membership, mimic_loss
from models.towers.cross import Parallel, cross_layers
from models.towers.dropout import Dropout
from models.towers.gates import FieldGates
from models.training.losses.objective import Labels, build_loss
from models.training.losses.sampling import TrainingRows
from workflows.errors import RecipeError
from workflows.features import stage as features

RANDOM = np.random.default_rng(3)
ROWS, WIDTH = 6, 5
INPUTS = RANDOM.normal(size=(ROWS, WIDTH)).astype(np.float32)


def randomised(layer: tf.keras.layers.Layer, *inputs: object) -> list[np.ndarray]:
    """Build a layer, give every weight (biases are zeros otherwise) a random value, and return them."""
    layer(*inputs)
    layer.set_weights([RANDOM.normal(size=weight.shape).astype(np.float32) for weight in layer.get_weights()])
    return layer.get_weights()


def crossed(inputs: np.ndarray, weights: list[np.ndarray], rank: int | None) -> np.ndarray:
    """x_{l+1} = x_0 * (W x_l + b) + x_l, where W is a product of two matrices if there is a rank; a row is a vector."""
    x, per_layer = inputs, 3 if rank else 2
    for first in range(0, len(weights), per_layer):
        matrix, bias, *inner = weights[first : first + per_layer]
        x = inputs * ((x @ inner[0] if inner else x) @ matrix + bias) + x
    return x


@pytest.mark.parametrize("rank", [None, 2])
def test_cross_layers_are_those_of_dcn_v2(rank: int | None) -> None:
    layers = cross_layers(Cross(layers=3, rank=rank))
    weights = randomised(layers, INPUTS)
    assert [weight.shape for weight in weights[: len(weights) // 3]] == (
        [(rank, WIDTH), (WIDTH,), (WIDTH, rank)] if rank else [(WIDTH, WIDTH), (WIDTH,)]
    )
    np.testing.assert_allclose(layers(INPUTS), crossed(INPUTS, weights, rank), rtol=1e-3, atol=1e-3)


def test_cross_layers_beside_the_mlp_meet_it_in_the_last_layer() -> None:
    layer = Parallel(Model(tower=(4, 3)), Cross(layers=2))
    weights = randomised(layer, INPUTS)
    cross, (hidden, bias), (out, out_bias) = weights[:4], weights[4:6], weights[6:]
    beside = np.maximum(INPUTS @ hidden + bias, 0.0)
    expected = np.concatenate([crossed(INPUTS, cross, None), beside], axis=1) @ out + out_bias
    np.testing.assert_allclose(layer(INPUTS), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("rate", "shape"), [(0.4, (301, 65)), (0.9, (20_001,))])
def test_dropout_takes_its_share_and_leaves_the_mean(rate: float, shape: tuple[int, ...]) -> None:
    layer, inputs = Dropout(rate), tf.Variable(tf.fill(shape, 3.0))
    tf.random.set_seed(1)
    with tf.GradientTape() as tape:
        outputs = tf.function(layer)(inputs, training=True)
    kept = outputs.numpy() != 0
    assert np.unique(outputs[kept]) == pytest.approx(3.0 / (1.0 - rate), rel=1e-4)
    assert kept.mean() == pytest.approx(1.0 - rate, abs=4 * np.sqrt(rate * (1.0 - rate) / kept.size))
    np.testing.assert_allclose(tape.gradient(outputs, inputs), kept / (1.0 - rate), rtol=1e-4)
    assert (layer(inputs, training=True).numpy() != outputs.numpy()).any()
    assert (layer(inputs) == inputs).numpy().all()
    assert (Dropout(0.0)(inputs, training=True) == inputs).numpy().all()


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_a_gate_weights_each_field_by_the_means_of_all(activation: str) -> None:
    fields = [RANDOM.normal(size=(ROWS, width)).astype(np.float32) for width in (4, 1, 7)]
    gates = FieldGates(Gates(reduction=2, activation=activation), 3)
    squeeze, excite = randomised(gates, fields)
    assert (squeeze.shape, excite.shape) == ((3, 1), (1, 3))
    excited = np.maximum(np.stack([field.mean(axis=1) for field in fields], axis=1) @ squeeze, 0.0) @ excite
    weights = 1.0 / (1.0 + np.exp(-excited)) if activation == "sigmoid" else np.maximum(excited, 0.0)
    for gated, field, weight in zip(gates(fields), fields, weights.T, strict=True):
        np.testing.assert_allclose(gated, field * weight[:, None], rtol=1e-5, atol=1e-6)


def test_a_mimic_moves_towards_the_other_tower_which_stays() -> None:
    mimic, other = tf.Variable(INPUTS), tf.Variable(INPUTS[::-1].copy())
    weights = np.arange(ROWS, dtype=np.float32)
    with tf.GradientTape() as tape:
        loss = mimic_loss(mimic, other, weights)
    distance = INPUTS - INPUTS[::-1]
    assert float(loss) == pytest.approx(np.mean(weights * (distance**2).sum(axis=1)), rel=1e-5)
    moved, unmoved = tape.gradient(loss, [mimic, other])
    np.testing.assert_allclose(moved, 2 * weights[:, None] * distance / ROWS, rtol=1e-5)
    assert unmoved is None


def test_categories_are_aligned_by_their_covariances() -> None:
    vectors = RANDOM.normal(size=(12, WIDTH)).astype(np.float32)
    members = (RANDOM.random((12, 4)) < 0.5).astype(np.float32)
    members[:, 0], members[:, 2], members[0, 2] = 1.0, 0.0, 1.0  # one row is no spread
    major, *others = (np.cov(vectors[members[:, category] > 0], rowvar=False) for category in (0, 1, 3))
    expected = sum(np.linalg.norm(major - other) ** 2 for other in others)
    assert float(alignment_loss(vectors, members)) == pytest.approx(expected, rel=1e-4)
    assert float(alignment_loss(vectors, members * np.float32([0, 1, 1, 1]))) == 0.0, "nothing to align with"


class FixedTowers:
    """Vectors, and augmented vectors, that are there already."""

    temperature = 1.0
    queries, items, more_queries, more_items = (RANDOM.normal(size=(7, 3)).astype(np.float32) for _ in range(4))

    def query_vectors(self, rows: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(self.queries, rows["row"])

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.items) if items is None else tf.gather(self.items, items)

    def augmented_queries(self, rows: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.gather(self.more_queries, rows["row"])

    def augmented_items(self, items: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.more_items, items)


@pytest.mark.parametrize("candidates", [Objective().candidates, Sampled(uniform=3)])
def test_each_tower_s_vectors_mimic_the_other_s_for_what_was_chosen(grouped: Path, candidates: object) -> None:
    part = features.load(grouped).train.interactions.iloc[:5].assign(item_index=[2, 0, 6, 3, 2])
    rows, towers = TrainingRows(part, 7), FixedTowers()
    labels = Labels(rows.items, rows.users, tf.ones(5))
    members = (RANDOM.random((7, 2)) < 0.8).astype(np.float32)
    plain = build_loss(Objective(candidates=candidates), rows, 3)
    settings = Augmentation(mimic_weight=0.3, category="tags", alignment_weight=0.7)
    losses = []
    for loss in (plain, AugmentedLoss(plain, settings, members)):
        tf.random.set_seed(0)
        losses.append(float(loss(towers, {"row": tf.range(5)}, labels)))
    queries, items = towers.queries[:5], towers.items[rows.items]
    mimic = ((towers.more_queries[:5] - items) ** 2).sum(1) + ((towers.more_items[rows.items] - queries) ** 2).sum(1)
    aligned = float(alignment_loss(items, members[rows.items]))
    assert losses[1] - losses[0] == pytest.approx(0.3 * mimic.mean() + 0.7 * aligned, rel=1e-4)


def test_the_category_of_most_rows_comes_first(grouped: Path) -> None:
    data = features.load(grouped)
    tags = data.items["tags"]
    members = membership("tags", np.ones(len(tags), np.float32), data)
    assert members.sum(axis=0).tolist() == sorted(members.sum(axis=0).tolist(), reverse=True)
    assert members.shape[1] == len(np.unique(tags[tags >= 3]))
    np.testing.assert_array_equal(members.sum(axis=1), (tags >= 3).sum(axis=1))
    last = np.flatnonzero(members[:, -1])[0]
    counted = membership("tags", np.eye(len(tags), dtype=np.float32)[last], data)
    assert counted[last, 0] == 1.0


def test_what_the_features_cannot_give_is_told(grouped: Path) -> None:
    data = features.load(grouped)
    with pytest.raises(RecipeError, match=r"query: 'age' is no categorical feature of \[query.features\].* user_id"):
        augmented_vectors(data.query_specs, "query", Model(augmentation=Augmentation(query="age")))
    with pytest.raises(RecipeError, match=r"category: 'genres' is no .* which has item_id, tags"):
        membership("genres", np.ones(240, np.float32), data)
    with pytest.raises(msgspec.ValidationError, match="needs a `tower` of two layers"):
        msgspec.convert({"tower": [64], "cross": {"structure": "parallel"}}, Model)
