"""Stage train: features to towers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.config import Model, Train
from models.data import join, with_history
from models.export import export_towers
from models.towers import TwoTowerModel
from models.validation import Validation
from workflows import features
from workflows.columns import Columns
from workflows.config import Device
from workflows.diagnostics import RecipeError
from workflows.features import FeatureSet, Part


def train(
    features_dir: Path,
    model: Model,
    train: Train,
    seed: int,
    device: Device,
    out: Path,
    progress: Callable[[str], None],
) -> None:
    """Train the towers on the features of a run and export them.

    Early stopping on the validation part finds the number of epochs; with `refit` a new model is then trained for as
    many epochs on training and validation rows together. `out` gets `query.onnx`, `item.onnx`, `item_vectors.npy`,
    `towers.json`, `history.json`, `checkpoints/` and `tensorboard/`.

    Raises
    ------
    RecipeError
        `device` is `gpu` and TensorFlow sees none.
    """
    data = features.load(features_dir)
    valid = with_history(data.valid, data.query_specs, data.train.interactions)
    with tf.device(_device_name(device)):
        tower = _new_model(data, model, seed)
        best = out / "checkpoints" / "best"
        validation = Validation(valid, data.train, train.monitor, train.patience, best, progress)
        rows = with_history(data.train, data.query_specs)
        _fit(tower, rows, train, seed, train.epochs, validation, out / "tensorboard" / "search")
        if train.refit:
            progress(f"training anew on training and validation rows, {validation.best_epoch} epochs")
            tower = _new_model(data, model, seed)
            rows = with_history(join([data.train, data.valid]), data.query_specs)
            report = _EpochLine(validation.best_epoch, progress)
            _fit(tower, rows, train, seed, validation.best_epoch, report, out / "tensorboard" / "refit")
            tower.save_weights(out / "checkpoints" / "refit")
        (out / "history.json").write_text(json.dumps(validation.history, indent=1), encoding="utf-8")
        export_towers(tower, data, validation.best_epoch, out)


def _new_model(data: FeatureSet, model: Model, seed: int) -> TwoTowerModel:
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return TwoTowerModel(data.query_specs, data.item_specs, data.items, model)


def _fit(
    tower: TwoTowerModel,
    part: Part,
    train: Train,
    seed: int,
    epochs: int,
    observer: tf.keras.callbacks.Callback,
    tensorboard: Path,
) -> None:
    data = _batches(part, train.batch_size, seed)
    tower.compile(optimizer=tf.keras.optimizers.Adam(_learning_rate(train, len(data))))
    callbacks = [observer, tf.keras.callbacks.TensorBoard(os.fspath(tensorboard), write_graph=False)]
    tower.fit(data, epochs=epochs, callbacks=callbacks, verbose=0)


def _batches(part: Part, batch_size: int, seed: int) -> tf.data.Dataset:
    """Yield `(query features, item_index)` in batches, shuffled anew every epoch; the short last batch is left out.

    The features are held as tensors and gathered by row number, which costs a fraction of feeding them row by row.
    """
    features = {name: tf.convert_to_tensor(values) for name, values in part.query.items()}
    targets = tf.convert_to_tensor(part.interactions[Columns.ItemIndex].to_numpy(np.int64))
    rows = tf.data.Dataset.range(len(part.interactions)).shuffle(len(part.interactions), seed=seed)
    indices = rows.batch(min(batch_size, len(part.interactions)), drop_remainder=True)
    return indices.map(lambda index: (_gather(features, index), tf.gather(targets, index))).prefetch(2)


def _gather(features: Mapping[str, tf.Tensor], index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(values, index) for name, values in features.items()}


def _learning_rate(train: Train, steps: int) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    if train.schedule == "constant":
        return train.learning_rate
    return tf.keras.optimizers.schedules.CosineDecay(train.learning_rate, train.epochs * steps)


def _device_name(device: Device) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise RecipeError('device = "gpu", but TensorFlow sees no GPU; use "auto" or "cpu", or the NGC image')
    return "/GPU:0" if gpus and device != "cpu" else "/CPU:0"


class _EpochLine(tf.keras.callbacks.Callback):
    """One line per epoch."""

    def __init__(self, epochs: int, progress: Callable[[str], None]) -> None:
        super().__init__()
        self.epochs, self.progress = epochs, progress

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.progress(f"epoch {epoch + 1} of {self.epochs}: loss {(logs or {})['loss']:.3f}")
