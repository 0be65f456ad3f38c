"""Rankers: their formulas against NumPy, what they learn, and that what is exported is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ensemble.serving.files.onnx_file import check_file
from models.config import Model, Train
from models.evaluation.stage import Beside, evaluate
from models.metrics import Ranking
from models.ranking import config
from models.ranking.cold import Cold, attended
from models.ranking.crossing import CrossLayer
from models.ranking.evaluation import reordered, served
from models.ranking.export import export_ranker
from models.ranking.inttower import IntTower, contrastive
from models.ranking.model import Sides, binary_losses, softmax_losses
from models.ranking.selection import SPEED, TEMPERATURE, Field, Gates, complexity, relaxed, selected
from models.ranking.stage import train_ranker
from models.training.stage import train
from workflows.features import stage as features
from workflows.features.stage import FeatureSpec

RNG = np.random.default_rng(3)
MODEL = Model(tower=(16, 8), embedding_dim=8, dropout=0.2, temperature=0.1)
TRAIN = Train(epochs=1, batch_size=256)
QUERY = [FeatureSpec(name="user_id", source="user_id", kind="categorical", dtype="int64", cardinality=9, max_length=0)]
ITEM = [FeatureSpec(name="item_id", source="item_id", kind="categorical", dtype="int64", cardinality=7, max_length=0)]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def test_inttower_scores_are_the_papers() -> None:
    settings = config.IntTower(layers=(6, 5), heads=2, head_dim=3)
    tower = IntTower(Sides(QUERY, ITEM, 4), settings, MODEL, scale=2.0)
    users, items, vectors = np.array([3, 4]), np.arange(7), normal(7, 4)
    queries, candidates = normal(2, 4), np.array([[0, 3, 5], [6, 1, 1]])
    sides = tower.item_side({"item_id": tf.constant(items)}, tf.constant(items), tf.constant(vectors)).numpy()
    scores = tower.scores({"user_id": tf.constant(users)}, tf.constant(queries), tf.constant(sides[candidates])).numpy()

    hidden, layers = tower.query_embedded({"user_id": tf.constant(users)}).numpy(), []
    for layer, heads in zip(tower.query_layers, tower.query_heads, strict=True):
        hidden = np.maximum(hidden @ layer.kernel.numpy() + layer.bias.numpy(), 0)
        layers.append((hidden @ heads.kernel.numpy() + heads.bias.numpy()).reshape(2, 2, 3))
    own = sides[:, 4:].reshape(7, 2, 3)
    for row in range(2):
        for place, item in enumerate(candidates[row]):
            every = [[max(head @ item_head for item_head in own[item]) for head in layer[row]] for layer in layers]
            expected = np.sum(every) + 2.0 * queries[row] @ vectors[item]
            assert scores[row, place] == pytest.approx(expected, abs=1e-4)


def test_the_contrastive_term_leaves_equal_items_out() -> None:
    queries, items, index = normal(4, 5), normal(4, 5), np.array([1, 2, 1, 3])
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (queries, items)]
    cosines = unit[0] @ unit[1].T / 0.1
    cosines[0, 2] = cosines[2, 0] = -np.inf
    expected = np.log(np.exp(cosines).sum(axis=1)) - np.diag(cosines)
    terms = contrastive(tf.constant(queries), tf.constant(items), tf.constant(index), 0.1)
    np.testing.assert_allclose(terms, expected, rtol=1e-4)


def test_a_cross_layer_over_two_parts_is_that_over_one() -> None:
    layer, start, later = CrossLayer(2), (normal(2, 1, 3), normal(2, 4, 5)), (normal(2, 4, 3), normal(2, 4, 5))
    crossed = np.concatenate(layer(tuple(map(tf.constant, start)), tuple(map(tf.constant, later))), axis=2)
    low, up = (
        np.concatenate([part.numpy() for part in parts], axis)
        for parts, axis in ((layer.low.matrices, 0), (layer.up, 1))
    )
    whole, x = np.concatenate([np.repeat(start[0], 4, axis=1), start[1]], axis=2), np.concatenate(later, axis=2)
    np.testing.assert_allclose(crossed, whole * (x @ low @ up) + x, rtol=1e-4, atol=1e-5)


def test_attention_is_over_what_is_there() -> None:
    queries, keys, present = normal(2, 3, 4), normal(2, 5, 4), np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    output = attended(tf.constant(queries), tf.constant(keys), tf.constant(present)).numpy()
    logits = np.einsum("mw,lw->ml", queries[0], keys[0][present[0]]) / 2.0
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(output[0], shares @ keys[0][present[0]], rtol=1e-4, atol=1e-5)
    assert not output[1].any()


def test_gates_and_their_price_are_the_papers() -> None:
    settings = config.FieldSelection(weight=0.5, computation=1.0, width=0.5, codes=0.1)
    fields = [Field("a", "item", 64, 99), Field("b", "query", 32, 9), Field("c", "both", 1)]
    costs = [complexity(field, settings) for field in fields]
    assert costs == pytest.approx([0.5 + 0.2, 1 + 0.25 + 0.1, 2 + 0.5 / 64])
    gates = Gates(fields, settings)
    gates(tf.zeros([]))
    gates.scaled.assign(np.array([2.0, 0.0, -3.0]) / SPEED)
    open_ = 1 / (1 + np.exp(-np.array([2.0, 0.0, -3.0])))
    # -log p(z) of Bernoulli priors that are open with 1 - sigmoid(c), in expectation, but for what no gate changes.
    prior = 1 - 1 / (1 + np.exp(-np.array(costs)))
    expected = -(open_ * np.log(prior) + (1 - open_) * np.log(1 - prior)).sum() + np.log(1 - prior).sum()
    assert float(gates.prior()) == pytest.approx(0.5 * expected, rel=1e-5)
    draws = np.array([0.1, 0.5, 0.9])
    opened = 1 / (1 + np.exp(-(np.log(draws / (1 - draws)) + np.array([2.0, 0.0, -3.0])) / TEMPERATURE))
    np.testing.assert_allclose(relaxed(gates.logits, tf.constant(draws, tf.float32)), opened, atol=1e-5)
    assert selected(fields, gates.probabilities(), 0.6) == ["a", "b"]  # of query and item the best stay


def test_gates_decide_within_a_few_hundred_steps_at_a_rankers_rate() -> None:
    tf.keras.utils.set_random_seed(1)
    gates = Gates([Field("tells", "query", 1), Field("tells nothing", "query", 1)], config.FieldSelection())
    gates(tf.zeros([]))
    weights, optimizer = tf.Variable([1.0, 1.0]), tf.keras.optimizers.Adam(config.Cold().learning_rate)

    @tf.function
    def step() -> None:
        values = tf.random.normal([256, 2])
        with tf.GradientTape() as tape:
            predicted = tf.reduce_sum(values * gates(0.0, training=True) * weights, axis=1)
            loss = tf.reduce_mean(tf.square(predicted - values[:, 0])) + gates.prior()
        optimizer.minimize(loss, [weights, *gates.trainable_variables], tape=tape)

    for _ in range(400):
        step()
    tells, tells_nothing = gates.probabilities()
    assert tells > 0.9
    assert tells_nothing < 0.1


def test_losses_count_only_what_is_there() -> None:
    logits, present = normal(2, 3), np.array([[True, True, False], [True, True, True]])
    softmax = [np.log(np.exp(row[own]).sum()) - row[0] for row, own in zip(logits, present, strict=True)]
    np.testing.assert_allclose(softmax_losses(tf.constant(logits), tf.constant(present)), softmax, rtol=1e-5)
    labels = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
    losses = np.log1p(np.exp(logits)) - labels * logits
    binary = [row[own].mean() for row, own in zip(losses, present, strict=True)]
    np.testing.assert_allclose(binary_losses(*map(tf.constant, (logits, labels, present))), binary, rtol=1e-5)


def test_what_is_served_is_ranked_within_the_candidates_and_retrieved_beyond() -> None:
    candidates, targets = np.array([[4, 2, 0], [1, 3, -1], [5, 6, 7]], np.int32), np.array([0, 9, 6])
    scores = np.array([[1.0, 1.0, 5.0], [0.0, 2.0, 99.0], [1.0, 0.0, 2.0]], np.float32)
    answers = reordered(lambda rows, items: scores[rows], candidates)
    assert answers.tolist() == [[0, 4, 2], [3, 1, -1], [7, 5, 6]]
    ranking = served(Ranking(np.array([2, 5, 1]), np.arange(3), np.ones((5, 10), bool)), answers, targets)
    assert ranking.ranks.tolist() == [0, 5, 2]
    assert np.flatnonzero(ranking.shown[0]).tolist() == [0, 3, 7]


@pytest.fixture(scope="module")
def towers(grouped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers that are worth little yet."""
    out = tmp_path_factory.mktemp("towers")
    train(features.load(grouped), MODEL, TRAIN, 1, "cpu", out, str)
    return out


@pytest.mark.parametrize(
    "kind",
    [
        config.IntTower(layers=(16,), heads=2, head_dim=8, candidates=40, epochs=4, batch_size=128, learning_rate=0.03),
        config.Cold(
            layers=(8,),
            candidates=40,
            epochs=2,
            batch_size=128,
            learning_rate=0.03,
            selection=config.FieldSelection(epochs=1),
        ),
    ],
    ids=["inttower", "cold"],
)
def test_a_ranker_is_trained_exported_and_measured(
    grouped: Path, towers: Path, kind: config.Ranking, tmp_path: Path
) -> None:
    """The export is compared with TensorFlow when it is made; `refit` goes the way through both trainings."""
    out = tmp_path / "ranker"
    out.mkdir()
    train_ranker(features.load(grouped), towers, kind, MODEL, TRAIN, 1, "cpu", out, str)
    history = json.loads((out / "history.json").read_text())
    assert history[-1]["loss"] < history[1]["loss"]
    stated = json.loads((out / "params.json").read_text())
    assert stated["pairing"] == json.loads((towers / "towers.json").read_text())["pairing"]
    assert np.load(out / "items.npy").shape == (240, stated["width"])
    plain, ranked = (evaluate(grouped, towers, "", beside=Beside(ranker)) for ranker in (None, out))
    assert ranked["retrieval"] == {name: plain[name] for name in ("all", "unseen")}
    assert ranked["unseen"]["ndcg@10"] > plain["unseen"]["ndcg@10"]
    for name in ("recall@50", "recall@100"):  # 40 candidates: nothing changes beyond
        assert ranked["unseen"][name] == plain["unseen"][name]
    if isinstance(kind, config.Cold):
        assert set(stated["kept"]) <= {field["name"] for field in stated["fields"]}


def test_cold_with_a_history_is_a_graph_that_a_server_takes(tmp_path: Path) -> None:
    history = FeatureSpec(name="history", source="history", kind="sequence", dtype="int64", cardinality=9, max_length=5)
    cold = Cold(Sides([*QUERY, history], ITEM, 4), config.Cold(), MODEL)
    cold.learn_from({"item_id": tf.range(1, 7, dtype=tf.int64)}, tf.constant(normal(6, 4)), False)
    seen = {"history": RNG.integers(0, 9, (3, 5)), "history_age": RNG.random((3, 5)).astype(np.float32)}
    candidates = RNG.integers(0, 6, (3, 4)).astype(np.int32)
    export_ranker(cold, {"user_id": np.array([1, 2, 3]), **seen}, normal(3, 4), candidates, {}, tmp_path)
    check_file(tmp_path / "ranker.onnx", (tmp_path / "ranker.onnx").read_bytes())


def test_cold_without_a_query_history_has_no_attention() -> None:
    cold = Cold(Sides(QUERY, ITEM, 4), config.Cold(), MODEL)
    assert [field.name for field in cold.fields] == ["user_id", "item_id", "similarity", "product"]
