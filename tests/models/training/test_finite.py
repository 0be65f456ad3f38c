"""A training that leaves the finite numbers ends there, says where, and leaves nothing that anybody goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from msgspec import structs

from models.config import Model, Train
from models.evaluation.tasks import errors
from models.metrics import Ranking
from models.ranking import config
from models.ranking.evaluation import reordered, served
from models.ranking.stage import train_ranker
from models.training.early_stopping import Validation
from models.training.horovod import Ranks
from models.training.rows import validation_rows
from models.training.stage import train
from models.training.weights.checkpoints import Checkpoints, Session
from models.training.weights.finite import FiniteGuard, check_finite
from workflows.errors import DivergedError, StageError
from workflows.features.stage import load

MODEL = Model(tower=(16, 8), embedding_dim=8, similarity="dot")
TRAIN = Train(epochs=2, batch_size=1024, learning_rate=1e30, refit=False)


def test_a_training_that_diverges_is_told_by_epoch_step_and_what_to_change(grouped: Path, tmp_path: Path) -> None:
    session, seen = Session(Ranks(), Checkpoints(tmp_path / "training", "key", seconds=0.0)), list[float]()
    data = load(grouped)
    with pytest.raises(DivergedError) as caught:
        train(
            data, MODEL, TRAIN, 7, "cpu", tmp_path / "towers", str, lambda _, value: seen.append(value), None, session
        )
    message = str(caught.value)
    assert message.startswith("search, epoch 1: in steps 1 to 4 the loss is")
    assert "lower train.learning_rate, 1e+30 now, or clip the numbers of 'age'" in message
    assert seen == [], "no diverged epoch has been validated"
    assert not [*tmp_path.rglob("state.json"), *tmp_path.rglob("*.onnx"), *tmp_path.rglob("checkpoint")]


class Tiny(tf.keras.Model):
    """One weight; the loss is what it is multiplied by."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = self.add_weight("w", shape=(), initializer=tf.keras.initializers.Constant(start))

    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"loss": self.weight * tf.reduce_sum(data)}


def test_the_guard_looks_at_every_step_and_at_the_weights() -> None:
    losses = np.ones(200, np.float32)
    losses[70] = np.inf
    for data, weight, together, message in (
        (losses, 1.0, 1, "epoch 1: in step 71 the loss is inf"),
        (losses[:71], 1.0, 8, "epoch 1: in steps 65 to 71 the loss is inf"),
        (losses[:9], np.nan, 1, "in step 1 "),
    ):
        guard = FiniteGuard("ranker", 0.5, [{"x": np.array([3.0, -8.0]), "codes": np.arange(99)}], "ranking")
        model = Tiny(weight)
        model.compile(optimizer="sgd", steps_per_execution=together)
        with pytest.raises(DivergedError, match=rf"^ranker, .*{message}.*ranking\.learning_rate, 0\.5 now.*'x'.* 8"):
            model.fit(tf.data.Dataset.from_tensor_slices(data).batch(1), callbacks=[guard], verbose=0)
    with pytest.raises(StageError, match=r"the earlier run: the weights 'w:0' are not finite.*retrain"):
        check_finite(Tiny(np.inf), "the earlier run")


class Overflowing:
    """Towers whose weights are finite, and the vector of one item is not."""

    def __init__(self, items: int) -> None:
        self.catalogue = {"item_id": np.arange(items)}
        self.vectors = np.ones((items, 2), np.float32)
        self.vectors[-1] = np.inf

    def query_vectors(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.ones([len(features["user_id"]), 2])

    def item_vectors(self, items: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.vectors, items)


def test_vectors_are_looked_at_before_validation_uses_them(grouped: Path, tmp_path: Path) -> None:
    data = load(grouped)
    validation = Validation(validation_rows(data), data.train, TRAIN, tmp_path, str)
    validation.model = Overflowing(len(data.catalogue))
    FiniteGuard("search", 0.5, [], validation=validation)
    with pytest.raises(DivergedError, match=r"^search, epoch 1: after it item vectors are not finite"):
        validation.measure()


def test_a_row_of_which_a_candidate_has_no_finite_score_is_not_answered() -> None:
    """As when it is served; its target is not where retrieval had it either."""
    candidates = np.array([[4, 2, 0], [4, 2, 0], [1, -1, -1], [-1, -1, -1]], np.int32)
    scores = np.array([[1, 2, 3], [1, np.nan, 3], [np.inf, 0, 0], [0, 0, 0]], np.float32)
    answers = reordered(lambda rows, _: scores[rows], candidates)
    assert answers.tolist() == [[0, 2, 4], [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    retrieved = Ranking(np.array([0, 0, 0, 5]), np.arange(4), np.zeros((5, 5), bool))
    assert served(retrieved, answers, np.array([4, 4, 1, 3])).ranks.tolist() == [2, 5, 5, 5]


def test_a_rating_that_is_not_finite_is_as_wrong_as_one_can_be() -> None:
    truth = np.array([1.0, 5.0, 3.0])
    assert errors(np.array([1.0, np.nan, np.inf]), truth) == {"rmse": pytest.approx((32 / 3) ** 0.5), "mae": 8 / 3}


def test_a_ranker_that_diverges_is_told_too(grouped: Path, tmp_path: Path) -> None:
    data, towers = load(grouped), tmp_path / "towers"
    settled = structs.replace(TRAIN, learning_rate=0.01, epochs=1)
    train(data, MODEL, settled, 7, "cpu", towers, str)
    ranking = config.IntTower(layers=(8,), epochs=1, learning_rate=1e30, candidates=20, negatives=4)
    with pytest.raises(DivergedError, match=r"^ranker, search, epoch 1: .*ranking\.learning_rate"):
        train_ranker(data, towers, ranking, MODEL, settled, 7, "cpu", tmp_path / "ranker", str)
    assert not (tmp_path / "ranker").exists()
