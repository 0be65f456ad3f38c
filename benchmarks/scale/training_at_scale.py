"""The large task of `training_speed`: made-up rows of a million users and items, trained by us and by TFRS.

Both towers get the user's id and twenty earlier items, both are [128, 64], their batches are 8,192 rows. Ours is
`models.training.stage.train` with sampled negatives and the recipe's Adam; theirs takes the other items of the batch as
negatives and Adagrad, as their tutorials do, and is fed codes and histories as arrays, so that no time goes into
looking up strings or sorting.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.harness import peak_mb

if TYPE_CHECKING:
    from models.config import Model, Train
    from workflows.features.stage import FeatureSet

TOWER, EMBEDDING, HISTORY, UNIFORM, SEED = (128, 64), 32, 20, 2048, 42
FIRST = 3
"""The code of the first known value."""
VALIDATED = 1000


class Task(NamedTuple):
    """Users, and as many items; rows of an epoch; rows of a batch."""

    vocabulary: int
    rows: int
    batch: int


WHOLE, QUICK, EPOCHS = Task(1_000_000, 24 * 8192, 8192), Task(2_000, 4 * 512, 512), 3
VOCABULARIES = (10_000, 100_000)
"""How many users and items there are besides."""
Figures = tuple[list[float], float, float]
"""Seconds of every epoch, and in MB the most memory and that after the imports."""


def rows_of(task: Task) -> pd.DataFrame:
    """Return interactions, popular items more often, and VALIDATED rows more."""
    random, size = np.random.default_rng(0), task.rows + VALIDATED
    items = (task.vocabulary * random.random(size) ** 3).astype(np.int64)
    users = random.integers(0, task.vocabulary, size)
    times = np.arange(size) + 1_600_000_000
    return pd.DataFrame({"user_id": users, "item_index": items, "timestamp": times, "rating": np.ones(size)})


def train_ours(task: Task, epochs: int) -> Figures:
    """Train by the project's own stage."""
    from models.config import Model, Objective, Sampled, Train
    from workflows.config import Sequence as History
    from workflows.features.history import spec_of
    from workflows.features.stage import FeatureSet, FeatureSpec, Part

    def spec(name: str) -> FeatureSpec:
        count = task.vocabulary + FIRST
        return FeatureSpec(name=name, source=name, kind="categorical", dtype="int64", cardinality=count, max_length=0)

    def part(rows: pd.DataFrame) -> Part:
        return Part({"user_id": rows["user_id"].to_numpy() + FIRST}, rows.reset_index(drop=True))

    rows, ids = rows_of(task), np.arange(task.vocabulary)
    learned, held_out = part(rows[: task.rows]), part(rows[task.rows :])
    history = spec_of(History(last=HISTORY), task.vocabulary)
    data = FeatureSet(
        *(learned, held_out, held_out),
        items={"item_id": ids + FIRST},
        query_specs=[spec("user_id"), history],
        item_specs=[spec("item_id")],
        catalogue=pd.DataFrame({"item_id": ids}),
        users=pd.DataFrame({"user_id": ids}),
    )
    settings = Train(
        epochs=epochs,
        patience=epochs,
        batch_size=task.batch,
        objective=Objective(candidates=Sampled(uniform=UNIFORM)),
        refit=False,
    )
    return train_by_the_stage(data, Model(tower=TOWER, embedding_dim=EMBEDDING), settings, SEED)


def train_by_the_stage(data: FeatureSet, model: Model, settings: Train, seed: int) -> Figures:
    """Train by the project's own stage; the time of an epoch is what its history says, and the export, which comes
    later, is not training."""
    from models.training.stage import train

    imported, peaks = peak_mb(), list[float]()

    def progress(message: str) -> None:
        if message.startswith("epoch "):
            peaks.append(peak_mb())

    with tempfile.TemporaryDirectory() as name:
        train(data, model, settings, seed, "cpu", Path(name), progress)
        history = json.loads((Path(name) / "history.json").read_text(encoding="utf-8"))
    return [epoch["seconds"] for epoch in history], peaks[-1], imported


def train_theirs(task: Task, epochs: int) -> Figures:
    """Train a model of TFRS."""
    import tensorflow as tf

    tfrs = import_tfrs()
    tf.keras.utils.set_random_seed(SEED)
    rows, count = rows_of(task), task.vocabulary + FIRST
    past = np.random.default_rng(1).integers(0, len(rows), (len(rows), HISTORY))  # other users' items cost the same
    columns = {
        "user_id": rows["user_id"].to_numpy() + FIRST,
        "item_id": rows["item_index"].to_numpy() + FIRST,
        "history": rows["item_index"].to_numpy()[past] + FIRST,
    }
    imported, seconds = peak_mb(), list[float]()
    model = _model_of_tfrs(tf, tfrs, count)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    learned, held_out = (
        tf.data.Dataset.from_tensor_slices({name: values[part] for name, values in columns.items()})
        for part in (slice(task.rows), slice(task.rows, None))
    )
    batches = learned.shuffle(100_000, seed=SEED).batch(task.batch).prefetch(2)
    clock = epoch_clock(tf, seconds)
    validation = held_out.batch(VALIDATED)
    model.fit(batches, epochs=epochs, verbose=0, validation_data=validation, validation_freq=epochs, callbacks=[clock])
    return seconds, peak_mb(), imported


def _model_of_tfrs(tf: Any, tfrs: Any, count: int) -> Any:
    def table() -> Any:
        return tf.keras.layers.Embedding(count, EMBEDDING)

    candidates = tf.keras.Sequential([table(), dense(tf, TOWER)])

    class TwoTowers(tfrs.models.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.past, self.query, self.candidates = table(), table(), dense(tf, TOWER), candidates
            catalogue = tf.data.Dataset.range(FIRST, count).batch(8192).map(candidates)
            self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates=catalogue))

        def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            past = tf.reduce_mean(self.past(features["history"]), axis=1)
            queries = self.query(tf.concat([self.user(features["user_id"]), past], axis=1))
            return self.task(queries, self.candidates(features["item_id"]), compute_metrics=not training)

    return TwoTowers()


def dense(tf: Any, widths: Sequence[int]) -> Any:
    """Return the layers of a tower: ReLU between them, none after the last."""
    hidden = [tf.keras.layers.Dense(width, activation="relu") for width in widths[:-1]]
    return tf.keras.Sequential([*hidden, tf.keras.layers.Dense(widths[-1])])


def import_tfrs() -> Any:
    """Return the module of TFRS.

    TFRS imports ScaNN where it is installed; beside TensorFlow 2.12 that fails, and not with the ImportError that TFRS
    is ready for. So ScaNN, which nothing here needs, is made one that is not installed.
    """
    sys.modules["scann"] = None  # type: ignore[assignment]  # what import takes for "not there"
    import tensorflow_recommenders

    return tensorflow_recommenders


def epoch_clock(tf: Any, seconds: list[float]) -> Any:
    """Return a callback that notes how long the batches of every epoch took, without the validation after them."""
    clock = {"started": 0.0, "batch": 0.0}

    def begin(epoch: int, logs: Any) -> None:
        clock["started"] = time.perf_counter()

    def batch(number: int, logs: Any) -> None:
        clock["batch"] = time.perf_counter()

    def end(epoch: int, logs: Any) -> None:
        seconds.append(clock["batch"] - clock["started"])

    return tf.keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=batch, on_epoch_end=end)
