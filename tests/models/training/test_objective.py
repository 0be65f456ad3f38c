"""The training objective against its definition, term by term, in NumPy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from models.config import Catalogue, Ignored, Objective, Sampled, Threshold, Train, Weighted
from models.training.horovod import Ranks
from models.training.losses import normaliser, sampling
from models.training.losses.objective import Labels, Lesson, Taught, build_loss, catalogue_softmax, sampled_softmax
from models.training.losses.ratings import positives, weights
from models.training.losses.sampling import Negatives, Sampler, TrainingRows
from models.training.optimizer import LazyAdam, build_optimizer
from workflows.errors import RecipeError

ITEMS, DIM, ROWS, T = 7, 4, 5, 0.3
RANDOM = np.random.default_rng(0)
QUERIES = RANDOM.normal(size=(ROWS, DIM)).astype(np.float32)
VECTORS = RANDOM.normal(size=(ITEMS, DIM)).astype(np.float32)
TARGETS = np.array([0, 3, 6, 3, 1])
HANDICAP = np.where(RANDOM.random((ROWS, ITEMS)) < 0.4, -np.inf, RANDOM.normal(size=(ROWS, ITEMS))).astype(np.float32)
HANDICAP[np.arange(ROWS), TARGETS] = 0
TAUGHT = Taught(np.where(RANDOM.random((ROWS, ITEMS)) < 0.3, -np.inf, RANDOM.normal(size=(ROWS, ITEMS))), 0.4)
TAUGHT.logits[:, 2] = 1.0  # at least one item has a finite logit


def interactions(users: list[int], items: list[int], ratings: list[float] | None = None) -> pd.DataFrame:
    ratings = ratings or [1.0] * len(users)
    return pd.DataFrame({"user_id": users, "item_index": items, "rating": np.array(ratings, np.float32)})


def cross_entropy(own: float, logits: np.ndarray, smoothing: float = 0.0, mean: float = 0.0) -> float:
    """-log softmax of `own` among `logits`, its label spread by `smoothing` over what has `mean` as mean logit."""
    log_sum = np.log(np.exp(logits.astype(np.float64)).sum())
    return log_sum - (1 - smoothing) * own - smoothing * mean


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits.astype(np.float64) - logits.max())
    return odds / odds.sum()


@pytest.mark.parametrize("taught", [None, TAUGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("handicap", [None, HANDICAP])
def test_the_catalogue_softmax_is_its_definition(
    handicap: np.ndarray | None, smoothing: float, taught: Taught | None
) -> None:
    lesson = None if taught is None else taught._replace(logits=tf.constant(taught.logits, tf.float32))
    losses = catalogue_softmax(QUERIES, VECTORS, TARGETS, T, handicap, smoothing, lesson).numpy()
    for row, target in enumerate(TARGETS):
        logits, share = VECTORS @ QUERIES[row] / T, np.zeros(ITEMS) if handicap is None else handicap[row]
        expected = cross_entropy(logits[target], logits + share, smoothing, np.average(logits, weights=np.exp(share)))
        if taught:
            mean = softmax(taught.logits[row]) @ logits
            expected = 0.6 * expected + 0.4 * cross_entropy(mean, logits + share)
        assert losses[row] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("hard", [0, 2, 99])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_sampled_softmax_is_its_definition(hard: int, smoothing: float, taught: bool) -> None:
    items = np.array([5, 3, 3, 0, 2, 1])
    log_expected = RANDOM.normal(size=6).astype(np.float32)
    negatives = Negatives(tf.constant(items), VECTORS[items], log_expected)
    handicap = np.where(items == TARGETS[:, None], -np.inf, RANDOM.normal(size=(ROWS, 6))).astype(np.float32)
    opinions = RANDOM.normal(size=(ROWS, 7)).astype(np.float32)  # the target's first
    opinions[:, 1:][items == TARGETS[:, None]] = -np.inf
    lesson = Taught(tf.constant(opinions), 0.4) if taught else None
    losses = sampled_softmax(QUERIES, VECTORS[TARGETS], negatives, handicap, T, hard, smoothing, lesson).numpy()
    for row, target in enumerate(TARGETS):
        mask = items != target
        own, logits = VECTORS[target] @ QUERIES[row] / T, (VECTORS[items] @ QUERIES[row] / T)[mask]
        share = (handicap[row] - log_expected)[mask]  # after the temperature, not divided by it
        competing = np.sort(logits + share)[::-1][:hard] if hard else logits + share
        mean = np.average(np.append(logits, own), weights=np.append(np.exp(share), 1.0))
        expected = cross_entropy(own, np.append(competing, own), smoothing, mean)
        if taught:
            opinion = softmax(np.append(opinions[row, 1:][mask] - log_expected[mask], opinions[row, 0]))
            taught_mean = opinion @ np.append(logits, own)
            expected = 0.6 * expected + 0.4 * cross_entropy(taught_mean, np.append(competing, own))
        assert losses[row] == pytest.approx(expected, rel=1e-5)


def gradients(loss: object, *inputs: tf.Tensor) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_mean(loss(*inputs))
    return [value.numpy(), *(tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(value, inputs))]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sampling_every_item_once_is_the_catalogue_softmax(smoothing: float) -> None:
    """Value and gradients; the expected count of every item is then one, and its logarithm zero."""

    def sampled(queries: tf.Tensor, items: tf.Tensor, log_t: tf.Tensor) -> tf.Tensor:
        negatives = Negatives(tf.range(ITEMS), items, tf.zeros(ITEMS))
        hits = tf.where(tf.range(ITEMS) == TARGETS[:, None], -np.inf, 0.0)
        own = tf.gather(items, TARGETS)
        return sampled_softmax(queries, own, negatives, hits, tf.exp(log_t), smoothing=smoothing)

    def whole(queries: tf.Tensor, items: tf.Tensor, log_t: tf.Tensor) -> tf.Tensor:
        return catalogue_softmax(queries, items, TARGETS, tf.exp(log_t), smoothing=smoothing)

    inputs = tf.constant(QUERIES), tf.constant(VECTORS), tf.constant(-1.0)
    for actual, expected in zip(gradients(sampled, *inputs), gradients(whole, *inputs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_drawing_an_item_twice_at_twice_the_expectation_changes_nothing() -> None:
    items = np.array([2, 4, 4, 5])
    twice = Negatives(tf.constant(items), VECTORS[items], np.log([1, 2, 2, 1]).astype(np.float32))
    once = Negatives(tf.constant([2, 4, 5]), VECTORS[[2, 4, 5]], tf.zeros(3))
    losses = [
        sampled_softmax(QUERIES, VECTORS[TARGETS], negatives, np.zeros((ROWS, len(negatives.items)), np.float32), T)
        for negatives in (twice, once)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_expected_counts_are_what_the_samplers_draw() -> None:
    """Batches without replacement, uniform and popular items, cached batches: counted over many steps."""
    random = np.random.default_rng(1)
    items = np.array([0] * 9 + [1] * 5 + [2] * 3 + [3] * 2 + [4])
    rows = TrainingRows(interactions(list(range(20)), items.tolist()), ITEMS)
    sampler = Sampler(Sampled(uniform=6, popularity=5, cached=8), rows, DIM)
    batch, steps, target = 4, 4000, 1
    together = 40  # a call of TensorFlow takes longer than what it draws
    for _ in range(2):  # fills the cache
        sampler.remember(tf.zeros(batch, tf.int64), tf.zeros([batch, DIM]))
    tf.random.set_seed(0)
    draw = tf.function(lambda: tf.stack([sampler.draw() for _ in range(together)]))
    counts = np.zeros(ITEMS)
    for drawn in np.concatenate([draw().numpy() for _ in range(steps // together)]):
        others = np.delete(np.arange(20), np.flatnonzero(items == target)[0])  # in the batch besides a row of item 1
        beside, cached = items[random.choice(others, batch - 1, replace=False)], items[random.choice(20, 8)]
        counts += np.bincount(np.concatenate([beside, drawn, cached]), minlength=ITEMS)
    expected = sampler.expected(tf.range(ITEMS, dtype=tf.int64), tf.constant(batch)).numpy()
    competitors = np.arange(ITEMS) != target
    np.testing.assert_allclose(counts[competitors] / steps, expected[competitors], rtol=0.06)


class FixedTowers:
    """Vectors that are there already; notes which items it was asked for."""

    temperature = T

    def __init__(self) -> None:
        self.items, self.asked = tf.Variable(VECTORS), []

    def query_vectors(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(QUERIES, features["row"])

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        self.asked.append(items)
        return tf.convert_to_tensor(self.items) if items is None else tf.gather(self.items, items)


KNOWN = interactions(users=[8, 9, 8, 8, 9], items=TARGETS.tolist())
FEATURES = {"row": tf.range(ROWS)}


def labels(rows: TrainingRows, chosen: list[int]) -> Labels:
    return Labels(tf.gather(rows.items, chosen), tf.gather(rows.users, chosen), tf.ones(len(chosen)))


@pytest.mark.parametrize("candidates", [Catalogue(), Sampled(uniform=2000)])
def test_a_user_s_other_items_are_pushed_away_as_much_as_the_recipe_says(candidates: Catalogue | Sampled) -> None:
    rows, pushed = TrainingRows(KNOWN, ITEMS), {}
    for weight in (0.0, 0.1, 1.0):
        towers = FixedTowers()
        loss = build_loss(Objective(candidates=candidates, positives_weight=weight), rows, DIM)
        tf.random.set_seed(0)
        with tf.GradientTape() as tape:
            value = loss(towers, {"row": tf.constant([0])}, labels(rows, [0]))
        gradient = tf.convert_to_tensor(tape.gradient(value, towers.items)).numpy()
        pushed[weight] = np.abs(gradient).sum(axis=1)
    owned, rest = [6, 3], [1, 2, 4, 5]  # user 8's items besides the target, and what is not theirs
    assert not pushed[0.0][owned].any()
    assert (pushed[0.0][rest] > 0).all()
    ratio = (pushed[0.1] / pushed[1.0])[owned] / (pushed[0.1] / pushed[1.0])[rest].mean()
    np.testing.assert_allclose(ratio, 0.1, rtol=1e-3)


class FixedTeacher:
    """Says the same of the items whatever the row."""

    def __init__(self, logits: np.ndarray) -> None:
        self.of_items = tf.constant(logits, tf.float32)

    def query_vectors(self, features: dict[str, tf.Tensor]) -> None:
        """Queries are alike to it."""

    def logits(self, labels: Labels, items: tf.Tensor | None = None) -> tf.Tensor:
        row = self.of_items if items is None else tf.gather(self.of_items, items)
        return tf.repeat(row[tf.newaxis], tf.size(labels.items), axis=0)


@pytest.mark.parametrize("candidates", [Catalogue(), Sampled(uniform=20000)])
def test_the_teacher_s_softmax_is_where_a_taught_student_comes_to_rest(candidates: Catalogue | Sampled) -> None:
    """With nothing but the teacher's word, its own logits are the student's best, so there the gradient vanishes."""
    rows, teacher = TrainingRows(KNOWN, ITEMS), VECTORS @ QUERIES[0] / T
    for says, still in ((teacher, True), (-teacher, False)):
        towers = FixedTowers()
        loss = build_loss(Objective(candidates=candidates), rows, DIM, Lesson(FixedTeacher(says), 1.0, False))
        tf.random.set_seed(0)
        with tf.GradientTape() as tape:
            value = loss(towers, {"row": tf.constant([0])}, labels(rows, [0]))
        gradient = np.abs(tf.convert_to_tensor(tape.gradient(value, towers.items)).numpy()).max()
        assert (gradient < 1e-4) == still


@pytest.mark.parametrize("candidates", [Catalogue(), Sampled(uniform=20000)])
def test_a_teacher_of_the_unseen_gives_the_user_s_other_items_nothing(candidates: Catalogue | Sampled) -> None:
    rows, moved = TrainingRows(KNOWN, ITEMS), {}
    for unseen_only in (False, True):
        towers = FixedTowers()
        lesson = Lesson(FixedTeacher(np.array([0, 0, 0, 0, 0, 0, 9.0])), 1.0, unseen_only)  # sure of item 6
        loss = build_loss(Objective(candidates=candidates), rows, DIM, lesson)
        with tf.GradientTape() as tape:
            value = loss(towers, {"row": tf.constant([0])}, labels(rows, [0]))
        gradient = tf.convert_to_tensor(tape.gradient(value, towers.items)).numpy()
        moved[unseen_only] = -gradient[6] @ QUERIES[0]
    assert moved[False] > 0 > moved[True]  # pulled towards the query; user 8 has it: pushed away


@pytest.mark.parametrize("table", [0, 2**24])
def test_who_owns_what(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "TABLE", table)
    rows, items = TrainingRows(KNOWN, ITEMS), np.array([3, 0, 5, 3, 1])
    owned = {8: {0, 6, 3}, 9: {3, 1}}
    owns = rows.owned(tf.constant([1, 0, 1], tf.int64), tf.constant(items)).numpy()
    np.testing.assert_array_equal(owns, [[item in owned[user] for item in items] for user in (9, 8, 9)])
    every = rows.owned(tf.constant([1, 0, 1], tf.int64)).numpy()
    np.testing.assert_array_equal(every, [[item in owned[user] for item in range(ITEMS)] for user in (9, 8, 9)])


@pytest.mark.parametrize("sampled", [Sampled(uniform=2, popularity=1), Sampled(uniform=2, popularity=1, cached=50)])
def test_a_sampled_step_embeds_each_item_of_the_batch_and_of_the_drawn_ones_once(sampled: Sampled) -> None:
    rows, towers = TrainingRows(KNOWN, ITEMS), FixedTowers()
    loss = build_loss(Objective(candidates=sampled), rows, DIM)
    for _ in range(3):
        loss(towers, FEATURES, labels(rows, list(range(ROWS))))
    for items in (tensor.numpy().tolist() for tensor in towers.asked):
        assert len(set(items)) == len(items) <= ROWS + 3
        assert set(items) >= set(TARGETS)


BLOCKWISE = [
    *[
        (Objective(candidates=sampled), None)
        for sampled in (Sampled(uniform=9), Sampled(group=2, uniform=3), Sampled(group=1, uniform=2))
    ],
    *[(Objective(label_smoothing=smoothing), None) for smoothing in (0.0, 0.2)],
    *[
        (Objective(label_smoothing=0.2), Lesson(FixedTeacher(TAUGHT.logits[0]), 0.4, unseen_only))
        for unseen_only in (False, True)
    ],
]


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("block", [1, 20, 1 << 20])
@pytest.mark.parametrize(("objective", "lesson"), BLOCKWISE)
def test_the_blockwise_loss_is_the_mean_of_the_rows_losses(
    objective: Objective, lesson: Lesson | None, block: int, fixed_shapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradients, with items that occur several times among the targets and the drawn ones."""
    monkeypatch.setattr(normaliser, "SOFTMAX_BLOCK", block)
    assert objective.is_blockwise
    loss = build_loss(objective, TrainingRows(KNOWN, ITEMS), DIM, lesson, fixed_shapes)
    batch = labels(loss.rows, list(range(ROWS)))._replace(weights=tf.constant([1.0, 0.5, 2.0, 0.0, 1.5]))
    queries = tf.Variable(QUERIES)

    class Towers(FixedTowers):
        def query_vectors(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            return tf.convert_to_tensor(queries)

    def mean(towers: FixedTowers) -> tf.Tensor:
        return tf.reduce_mean(loss.row_losses(towers, towers.query_vectors({}), batch)[0] * batch.weights)

    results = []
    for value_of in (tf.function(mean), tf.function(lambda towers: loss(towers, {}, batch))):
        towers = Towers()
        tf.random.set_seed(0)  # both draw the same items
        with tf.GradientTape() as tape:
            value = value_of(towers)
        results.append([value, *(tf.convert_to_tensor(grad) for grad in tape.gradient(value, [queries, towers.items]))])
    for expected, blockwise in zip(*results, strict=True):
        np.testing.assert_allclose(blockwise, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_groups_of_a_batch_are_batches_that_share_what_is_drawn(weight: float) -> None:
    rows = TrainingRows(KNOWN, ITEMS)

    def loss(chosen: list[int], group: int) -> float:
        objective = Objective(candidates=Sampled(group=group, uniform=4), positives_weight=weight)
        tf.random.set_seed(0)  # the same items are drawn
        return float(
            build_loss(objective, rows, DIM)(FixedTowers(), {"row": tf.constant(chosen)}, labels(rows, chosen))
        )

    halves = [loss([0, 1], 9), loss([2, 4], 9)]
    assert loss([0, 1, 2, 4], 2) == pytest.approx(np.mean(halves), rel=1e-5)
    assert loss([0, 1, 2, 4], 9) != pytest.approx(np.mean(halves), rel=1e-4)


def test_the_loss_on_average_is_near_that_of_the_catalogue_whatever_is_sampled() -> None:
    """An uncorrected softmax, or one corrected before the temperature, would be far off."""
    rows = TrainingRows(KNOWN, ITEMS)
    batch = labels(rows, list(range(ROWS)))
    exact = build_loss(Objective(), rows, DIM)(FixedTowers(), FEATURES, batch)
    for sampled in (
        Sampled(uniform=300),
        Sampled(group=2, uniform=300),
        Sampled(uniform=300, popularity=200),
        Sampled(uniform=300, cached=20),
    ):
        loss = build_loss(Objective(candidates=sampled), rows, DIM)
        tf.random.set_seed(0)
        mean = np.mean([loss(FixedTowers(), FEATURES, batch) for _ in range(30)])
        assert mean == pytest.approx(float(exact), rel=0.01)


def test_the_cache_holds_the_newest_items_and_passes_no_gradient() -> None:
    rows = TrainingRows(KNOWN, ITEMS)
    sampler = Sampler(Sampled(cached=5), rows, DIM)
    vectors = tf.Variable(VECTORS)
    empty = tf.zeros(0, tf.int64), tf.zeros([0, DIM])
    with tf.GradientTape() as tape:
        assert len(sampler.with_cached(*empty, tf.constant(3)).items) == 0
        for first in (0, 2, 4):
            items = tf.range(first, first + 2, dtype=tf.int64)
            sampler.remember(items, tf.gather(vectors, items))
        cached = sampler.with_cached(*empty, tf.constant(3))
    assert cached.items.numpy().tolist() == [4, 5, 2, 3, 0]
    np.testing.assert_array_equal(cached.vectors, VECTORS[[4, 5, 2, 3, 0]])
    assert tape.gradient(cached.vectors, vectors) is None


def test_a_row_s_weight_multiplies_its_loss() -> None:
    rows = TrainingRows(KNOWN, ITEMS)
    for candidates in (Catalogue(), Sampled(uniform=0)):
        loss = build_loss(Objective(candidates=candidates), rows, DIM)
        batch = labels(rows, list(range(ROWS)))
        alone = [float(loss(FixedTowers(), FEATURES, batch._replace(weights=tf.one_hot(i, ROWS)))) for i in range(ROWS)]
        weighted = loss(FixedTowers(), FEATURES, batch._replace(weights=tf.constant([0.0, 1, 2, 3, 4])))
        assert float(weighted) == pytest.approx(np.dot(alone, np.arange(5)), rel=1e-5)


def test_what_a_rating_does() -> None:
    rated = interactions([1, 1, 2, 2], [0, 1, 2, 3], [5.0, 3.0, 4.0, 0.0])
    assert positives(rated, Ignored()).tolist() == [True] * 4
    assert weights(rated, Ignored()).tolist() == weights(rated, Threshold()).tolist() == [1.0] * 4
    assert positives(rated, Threshold()).tolist() == [True, False, True, False]
    assert weights(rated, Weighted()).tolist() == pytest.approx([5 / 3, 1.0, 4 / 3, 0.0])


def test_ratings_that_do_not_allow_it_are_told() -> None:
    with pytest.raises(RecipeError, match=r"no row is rated 4 or better, the best is 3; lower positive_from"):
        positives(interactions([1], [0], [3.0]), Threshold())
    for ratings in ([-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(RecipeError, match=r"ratings from .* kind = .ignore. or .threshold."):
            weights(interactions([1, 1], [0, 1], ratings), Weighted())


def test_weights_decay_by_themselves_and_biases_do_not() -> None:
    optimizer = build_optimizer(Train(weight_decay=0.1, learning_rate=0.01), 1, Ranks())
    names = ("dense/kernel", "dense/bias", "history_pooling/log_decays", "log_temperature")
    variables = [tf.Variable(2.0, name=name) for name in names]
    optimizer.apply_gradients([(tf.constant(0.0), variable) for variable in variables])
    assert [float(variable) for variable in variables] == pytest.approx([2.0 * (1 - 0.01 * 0.1), 2.0, 2.0, 2.0])


def test_gradients_are_clipped_together() -> None:
    """Seen in Adam's running mean of the gradients."""
    optimizer = build_optimizer(Train(clip_norm=1.0), 1, Ranks())
    variables = [tf.Variable(0.0, name="a"), tf.Variable(0.0, name="b")]
    optimizer.apply_gradients(zip([tf.constant(3.0), tf.constant(4.0)], variables, strict=True))
    moments = [float(optimizer._momentums[i]) for i in range(2)]
    assert moments == pytest.approx([0.1 * 0.6, 0.1 * 0.8])


def test_small_tables_and_layers_are_moved_as_by_keras_adam() -> None:
    start, values = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), []
    for adam in (tf.keras.optimizers.Adam(0.01), LazyAdam(0.01, lazy_rows=7)):
        table, layer = tf.Variable(start, name="id_embedding/embeddings"), tf.Variable(start, name="dense/kernel")
        for step in range(5):
            with tf.GradientTape() as tape:
                looked_up = tf.gather(table, [4, step, 4])
                loss = tf.reduce_sum(tf.sin(tf.matmul(looked_up, layer, transpose_b=True)))
            adam.minimize(loss, [table, layer], tape=tape)
        values.append([table.numpy(), layer.numpy()])
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)
    assert (values[0][0] != start)[[0, 1, 2, 3, 4]].all()


def test_a_large_table_is_moved_where_it_is_looked_up_and_there_as_by_adamw() -> None:
    """Where all numbers of a row have gradients of one size: a row has one second moment."""
    signs = tf.constant([1.0, -1.0, 1.0])
    start = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    looked_up = tf.constant([4, 1, 4])
    looked_up_as = tf.cast(looked_up, tf.float32)
    tables = {}
    for lazy_rows in (6, 7):
        built = build_optimizer(Train(weight_decay=0.1, learning_rate=0.01, lazy_rows=lazy_rows), 1, Ranks())
        optimizer = LazyAdam.from_config(built.get_config())  # as Horovod makes its own
        table, bias = tf.Variable(start, name="id_embedding/embeddings"), tf.Variable([1.0], name="dense/bias")
        for step in range(5):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.sin(looked_up_as + step)[:, tf.newaxis] * signs * tf.gather(table, looked_up))
                loss += bias[0]
            optimizer.minimize(loss, [table, bias], tape=tape)
        tables[lazy_rows] = table.numpy()
        assert optimizer._velocities[0].shape == (6, 1 if lazy_rows == 6 else 3)
    np.testing.assert_allclose(tables[6][[1, 4]], tables[7][[1, 4]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tables[6][[0, 2, 3, 5]], start[[0, 2, 3, 5]])
    assert (np.abs(tables[7][[0, 2, 3, 5]]) < np.abs(start[[0, 2, 3, 5]])).all(), "a small table decays as a whole"
