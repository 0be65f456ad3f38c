"""Several tasks over the same towers: formulas against NumPy, and what is learned where the structure is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from msgspec import structs

from models.config import Model, Objective, Sampled, Threshold, Train
from models.evaluation.stage import evaluate
from models.evaluation.tasks import biases
from models.towers.heads import Scale, TaskHeads
from models.towers.stored_heads import StoredHeads
from models.training.losses.objective import Labels, build_loss
from models.training.losses.sampling import TrainingRows
from models.training.losses.task_config import EventTasks, RatingTask, Tasks
from models.training.losses.tasks import TasksLoss, event_codes, task_labels, uncertain_terms
from models.training.row_weights import RowWeights
from models.training.stage import train
from retrieval.report.tables import tasks_for_page
from workflows.config import Bucketized, Categorical, Continuous, FeatureSide, RandomSplit, Synthetic
from workflows.errors import RecipeError
from workflows.features import stage as features
from workflows.sources import synthetic

MODEL = Model(tower=(32, 16), embedding_dim=16, dropout=0.1, temperature=0.1)
TRAIN = Train(epochs=6, patience=6, batch_size=512, learning_rate=0.01, refit=False)
SHARES = {"view": 0.9, "click": 0.07, "purchase": 0.03}
EVENTS = EventTasks(kinds=tuple(SHARES), served="purchase")
RANDOM = np.random.default_rng(0)
ROWS, ITEMS, DIM = 6, 5, 4
QUERIES, VECTORS = (RANDOM.normal(size=(rows, DIM)).astype(np.float32) for rows in (ROWS, ITEMS))
KNOWN = pd.DataFrame(
    {
        "user_id": [1, 1, 2, 2, 3, 3],
        "item_index": [0, 1, 2, 0, 4, 3],
        "rating": np.array([1, 2, 3, 4, 5, 5], np.float32),
        "event": ["view", "purchase", "view", "click", "view", "view"],
    }
)


class FixedTowers:
    """Vectors that are there already."""

    temperature = 0.5

    def query_vectors(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(QUERIES, features["row"])

    def item_vectors(self, training: bool = False, items: tf.Tensor | None = None) -> tf.Tensor:
        return tf.constant(VECTORS) if items is None else tf.gather(VECTORS, items)


def heads_of(tasks: Tasks, unit: bool = True) -> TaskHeads:
    """Heads with weights drawn, so that no head is the identity."""
    tf.keras.utils.set_random_seed(1)
    heads = TaskHeads(tasks, DIM, unit, Scale(10 / 3, float(KNOWN["rating"].std(ddof=0))))
    for variable in heads.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))
    return heads


def loss_of(tasks: Tasks, heads: TaskHeads, weights: np.ndarray) -> float:
    rows = TrainingRows(KNOWN, ITEMS)
    labels = Labels(rows.items, rows.users, tf.constant(weights, tf.float32), **task_labels(KNOWN, tasks))
    loss = TasksLoss(build_loss(Objective(), rows, DIM), tasks, heads)
    return float(loss(FixedTowers(), {"row": tf.range(ROWS)}, labels))


def retrieval_losses(queries: np.ndarray) -> np.ndarray:
    logits = queries @ VECTORS.T / FixedTowers.temperature
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(ROWS), KNOWN["item_index"]]


def in_numpy(heads: TaskHeads, tmp_path: Path) -> tuple[np.ndarray, float]:
    """The losses of retrieval and the mean squared error, by what the heads were stored as."""
    heads.save(tmp_path)
    stored = StoredHeads.read(tmp_path)
    kinds = KNOWN["event"].to_numpy()
    queries = np.stack([stored.asked(QUERIES[row : row + 1], kinds[row])[0] for row in range(ROWS)])
    if not stored.rates:
        return retrieval_losses(queries), 0.0
    off = (stored.rating(QUERIES, VECTORS[KNOWN["item_index"]]) - KNOWN["rating"]) / KNOWN["rating"].std(ddof=0)
    return retrieval_losses(queries), float((off**2).mean())


@pytest.mark.parametrize("unit", [True, False])
def test_the_joint_loss_is_its_definition_and_heads_are_stored_as_they_are(tmp_path: Path, unit: bool) -> None:
    tasks, weights = Tasks(rating=RatingTask(weight=0.3, hidden=(3,)), events=EVENTS), RANDOM.random(ROWS)
    heads = heads_of(tasks, unit)
    losses, error = in_numpy(heads, tmp_path)
    assert not np.allclose(losses, retrieval_losses(QUERIES))
    assert loss_of(tasks, heads, weights) == pytest.approx(0.7 * (losses * weights).mean() + 0.3 * error, rel=1e-5)


def test_learned_weights_are_those_of_kendall_for_every_kind_of_event_and_the_rating(tmp_path: Path) -> None:
    tasks = Tasks(rating=RatingTask(), events=EVENTS, weighting="uncertainty")
    heads, weights = heads_of(tasks), np.array([1, 1, 3, 1, 0, 2.0])
    losses, error = in_numpy(heads, tmp_path)
    s = heads.log_variances.numpy()
    means = [np.average(losses[chosen], weights=weights[chosen]) for chosen in ([0, 2, 4, 5], [3], [1])]
    expected = sum(np.exp(-s[:3]) * means + s[:3] / 2) + np.exp(-s[3]) * error / 2 + s[3] / 2
    assert loss_of(tasks, heads, weights) == pytest.approx(expected, rel=1e-5)
    assert StoredHeads.read(tmp_path).weights() == pytest.approx(dict(zip(tasks.terms, np.exp(-s), strict=True)))
    # A kind that the batch has not keeps its variance.
    with tf.GradientTape() as tape:
        present = tf.constant([1.0, 0.0, 1.0, 1.0])
        terms = uncertain_terms(tf.constant([2.0, 0.0, 3.0, 1.0]), heads.log_variances, tf.constant([False] * 4))
        total = tf.reduce_sum(terms * present)
    assert tape.gradient(total, heads.log_variances).numpy()[1] == 0


def test_weight_0_trains_the_head_and_moves_no_vector() -> None:
    tasks, queries = Tasks(rating=RatingTask(weight=0.0)), tf.Variable(QUERIES)
    heads, rows = heads_of(tasks), TrainingRows(KNOWN, ITEMS)
    towers = FixedTowers()
    towers.query_vectors = lambda features, training=False: tf.gather(queries, features["row"])
    labels = Labels(rows.items, rows.users, tf.zeros(ROWS), **task_labels(KNOWN, tasks))  # no retrieval either
    loss = TasksLoss(build_loss(Objective(), rows, DIM), tasks, heads)
    with tf.GradientTape() as tape:
        value = loss(towers, {"row": tf.range(ROWS)}, labels)
    moved, learned = tape.gradient(value, [queries, heads.trainable_variables[0]])
    assert not tf.convert_to_tensor(moved).numpy().any()
    assert learned.numpy().any()


def test_rows_without_use_are_left_out_unless_their_ratings_are_learned_from() -> None:
    def learned(train: Train) -> tuple[list[int], np.ndarray]:
        weights = RowWeights(train)
        raw = weights.of(KNOWN)
        weights.check()
        return np.flatnonzero(raw >= 0).tolist(), raw[raw >= 0] / weights.mean

    objective = Objective(rating=Threshold(positive_from=4.0))
    kept, weights = learned(Train(objective=objective))
    assert (kept, weights.tolist()) == ([3, 4, 5], [1, 1, 1])
    kept, weights = learned(Train(objective=objective, tasks=Tasks(rating=RatingTask())))
    assert (kept, weights.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 0, 0, 2, 2, 2])
    events = structs.replace(EVENTS, weights={"click": 0.0, "purchase": 3.0})
    kept, weights = learned(Train(tasks=Tasks(events=events)))
    assert kept == [0, 1, 2, 4, 5]
    np.testing.assert_allclose(weights, np.array([1, 3, 1, 1, 1]) / 1.4, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (KNOWN.drop(columns="event"), r"no column 'event'; there are: user_id.*data.interactions.columns"),
        (KNOWN.assign(event="cart"), "6 rows are of another kind, the first of 'cart'"),
    ],
)
def test_events_that_the_recipe_does_not_know_are_named(rows: pd.DataFrame, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        event_codes(rows, EVENTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": {}}, "names none"),
        ({"tasks": {"events": {"kinds": ["view"], "served": "buy"}}}, "'buy' is none of `kinds`"),
        ({"tasks": {"events": {"kinds": ["view"], "served": "view", "weights": {"view": 0}}}}, "are all 0"),
        ({"tasks": {"rating": {"weight": 0.5}, "weighting": "uncertainty"}}, "leave `weight`"),
        ({"monitor": "rating.r2"}, "needs `tasks.rating`"),
    ],
)
def test_tasks_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(settings, Train)


def test_biases_are_damped_deviations() -> None:
    predicted = biases(KNOWN, pd.DataFrame({"user_id": [1, 9], "item_index": [0, 0]}))
    item = (1 + 4 - 2 * 10 / 3) / 27
    other_item = (2 - 10 / 3) / 26
    user = (1 - 10 / 3 - item + 2 - 10 / 3 - other_item) / 12
    np.testing.assert_allclose(predicted, [10 / 3 + item + user, 10 / 3 + item])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of events: everybody views much and buys little, of what is viewed the half that suits the age."""
    directory = tmp_path_factory.mktemp("shop")
    config = Synthetic(interactions=20_000, users=400, items=200, clusters=10, affinity=0.8, skew=0.3, events=SHARES)
    synthetic.fetch(config, directory, lambda _: None).save(directory / "tables")
    query = FeatureSide(features={"user_id": Categorical(), "age": Bucketized(buckets=4)})
    item = FeatureSide(features={"item_id": Categorical(), "price": Continuous(normalise=True)})
    tables = features.open_tables(directory / "tables")
    features.build(tables, query, item, RandomSplit(), "cpu", directory / "features")
    return directory / "features"


def test_purchases_borrow_from_views_and_ratings_are_predicted(shop: Path, tmp_path: Path) -> None:
    """Few purchases alone find less than with the views; and a head of their own finds what views ask for."""
    alone = structs.replace(EVENTS, weights={"view": 0.0, "click": 0.0})
    joint = Tasks(rating=RatingTask(weight=0.2), events=structs.replace(EVENTS, weights={"view": 0.3, "click": 0.3}))
    settings = {"alone": Tasks(events=alone), "joint": joint}
    figures = {}
    for name, tasks in settings.items():
        taught = structs.replace(TRAIN, tasks=tasks, monitor="all.recall@10")
        train(features.load(shop), MODEL, taught, 7, "cpu", tmp_path / name, lambda _: None)
        figures[name] = evaluate(shop, tmp_path / name, "random")["tasks"]
    purchases = {name: entry["events"]["purchase"]["served"]["all"]["recall@10"] for name, entry in figures.items()}
    assert purchases["joint"] > 1.3 * purchases["alone"]
    events, rating = figures["joint"]["events"], figures["joint"]["rating"]
    assert events["purchase"]["rows"] == (features.load(shop).test.interactions["event"] == "purchase").sum()
    assert "own" not in events["purchase"]
    assert events["view"]["own"]["all"]["recall@10"] > events["view"]["served"]["all"]["recall@10"]
    assert rating["head"]["rmse"] < 0.99 * rating["mean"]["rmse"]
    pages = tasks_for_page({"tasks": figures["joint"]})
    assert [len(page.rows) for page in pages] == [3, 3 + 3 + 2]


def test_sampled_negatives_and_learned_weights_train_too(shop: Path, tmp_path: Path) -> None:
    objective = Objective(candidates=Sampled(uniform=64), rating=Threshold(positive_from=4.0))
    tasks = Tasks(rating=RatingTask(), events=EVENTS, weighting="uncertainty")
    taught = structs.replace(TRAIN, epochs=2, objective=objective, tasks=tasks, monitor="rating.r2")
    train(features.load(shop), MODEL, taught, 7, "cpu", tmp_path, lambda _: None)
    weights = evaluate(shop, tmp_path, "random")["tasks"]["weights"]
    assert list(weights) == [*SHARES, "rating"]
    assert all(weights[kind] < 0.9 for kind in SHARES), "losses of several nats weigh less than they did"
