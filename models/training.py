"""Stage train: features to towers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from msgspec.structs import replace

from models.augmentation import augmented_loss
from models.config import Distillation, Model, Train
from models.cost import Meter
from models.data import join, queries, with_history
from models.distillation import PeersTeacher, Product, TowersTeacher
from models.export import export_towers
from models.growing import PHASES, Earlier, Start, going_on
from models.objective import Labels, Lesson, Teacher, build_loss
from models.sampling import TrainingRows
from models.tasks import learned_rows, served_rows, with_tasks
from models.towers import TwoTowerModel
from models.validation import OnEpoch, Validation
from workflows.config import Device
from workflows.diagnostics import RecipeError
from workflows.features import FeatureSet, Part


def train(
    data: FeatureSet,
    model: Model,
    train: Train,
    seed: int,
    device: Device,
    out: Path,
    progress: Callable[[str], None],
    on_epoch: OnEpoch | None = None,
    earlier: Earlier | None = None,
) -> None:
    """Train the towers on features and export them; with `earlier` towers go on from these (`models.growing`).

    Early stopping on the validation part finds the number of epochs; with `refit` a new model is then trained for as
    many epochs on training and validation rows together. `out` gets `query.onnx`, `item.onnx`, `item_vectors.npy`,
    `towers.json`, `history.json`, `cost.json`, `checkpoints/` and `tensorboard/`, with tasks also `tasks.npz`.

    Raises
    ------
    RecipeError
        `device` is `gpu` and TensorFlow sees none; or ratings or events do not allow what the recipe does with them.
    """
    meter = Meter()
    if earlier:
        train = going_on(train)
    known = data.train.interactions
    valid = served_rows(queries(data, data.valid, known), train.tasks)
    with tf.device(_device_name(device)):
        best = out / "checkpoints" / "best"
        validation = Validation(
            valid, data.train, train.monitor, train.patience, best, progress, on_epoch, earlier is not None
        )
        logs = out / "tensorboard"
        search, refit = (Start(earlier, data, model, train, one) if earlier else None for one in PHASES)
        towers, epochs = [], train.epochs
        if search is None or search.settings.search:
            callbacks = [validation, _tensorboard(logs / "search")]
            towers = [_trained(data, data.train, model, train, seed, epochs, callbacks, (), search)]
            epochs = validation.best_epoch
        if train.refit:
            towers.append(_trained_anew(data, towers, model, train, seed, epochs, logs, progress, refit))
        tower = towers[-1]
        if train.refit:
            tower.save_weights(out / "checkpoints" / "refit")
        (out / "history.json").write_text(json.dumps(validation.history, indent=1), encoding="utf-8")
        export_towers(tower, data, epochs, out)
        if tower.heads is not None:
            tower.heads.save(out)
        meter.write(tower, validation.history, out)


def _trained_anew(
    data: FeatureSet,
    searched: Sequence[TwoTowerModel],
    model: Model,
    train: Train,
    seed: int,
    epochs: int,
    logs: Path,
    progress: Callable[[str], None],
    start: Start | None = None,
) -> TwoTowerModel:
    """Train on training and validation rows together; with distillation as many generations as it says."""
    rows, towers = join([data.train, data.valid]), list(searched)
    generations = train.distillation.generations if train.distillation else 0
    if generations and train.distillation and train.distillation.dropout is not None:
        model = replace(model, dropout=train.distillation.dropout)
    for generation in range(1, 1 + max(1, generations)):
        progress(f"training anew on training and validation rows, {epochs} epochs")
        callbacks = [_EpochLine(epochs, progress), _tensorboard(logs / f"refit-{generation}")]
        teachers = towers if generations else []
        # Other initial weights than the teachers': what they all agree on is then less of chance.
        towers.append(_trained(data, rows, model, train, seed + len(teachers), epochs, callbacks, teachers, start))
    return towers[-1]


def _trained(
    data: FeatureSet,
    part: Part,
    model: Model,
    train: Train,
    seed: int,
    epochs: int,
    callbacks: list[tf.keras.callbacks.Callback],
    teachers: Sequence[TwoTowerModel] = (),
    start: Start | None = None,
) -> TwoTowerModel:
    """Make a new model and train it on those rows of `part` that there is a use for, with teachers also by these."""
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    part, weights = learned_rows(with_history(part, data.query_specs), train)
    known = part.interactions
    if start:
        part, weights = start.newer(part, weights)
    rows = TrainingRows(part.interactions, len(data.catalogue), known)
    retrieval = build_loss(train.objective, rows, model.tower[-1], _lesson(train.distillation, teachers, part, rows))
    loss, heads = with_tasks(retrieval, model, train.tasks, part.interactions)
    loss = augmented_loss(loss, model.augmentation, rows, data)
    tower = TwoTowerModel(data.query_specs, data.item_specs, data.items, model, loss, data.pretrained)
    tower.heads = heads
    labels = Labels(rows.items, rows.users, tf.constant(weights), tf.range(len(rows.items), dtype=tf.int64))
    batches = _batches(part, labels, train.batch_size, seed)
    tower.compile(optimizer=build_optimizer(train, max(1, epochs) * len(batches)))
    if start:
        start.give(tower)
    tower.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)
    return tower


def _lesson(
    distillation: Distillation | None, towers: Sequence[TwoTowerModel], part: Part, rows: TrainingRows
) -> Lesson | None:
    """Return what the towers, and the recipe's peers, teach; None in a search that awaits its generations."""
    if distillation is None or (distillation.generations and not towers):
        return None
    teachers: list[Teacher] = [TowersTeacher(towers, part)] if towers else []
    if distillation.peers:
        teachers.append(PeersTeacher(distillation, rows))
    return Lesson(Product(teachers), distillation.weight, distillation.unseen_only)


def _batches(part: Part, labels: Labels, batch_size: int, seed: int) -> tf.data.Dataset:
    """Yield `(query features, Labels)` in batches, shuffled anew every epoch; the short last batch is left out.

    The features are held as tensors and gathered by row number, which costs a fraction of feeding them row by row.
    """
    features = {name: tf.convert_to_tensor(values) for name, values in part.query.items()}
    rows = tf.data.Dataset.range(len(part.interactions)).shuffle(len(part.interactions), seed=seed)
    indices = rows.batch(min(batch_size, len(part.interactions)), drop_remainder=True)
    return indices.map(
        lambda index: (_gather(features, index), Labels(*(tf.gather(values, index) for values in labels)))
    ).prefetch(2)


def _gather(features: Mapping[str, tf.Tensor], index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(values, index) for name, values in features.items()}


def build_optimizer(train: Train, steps: int) -> tf.keras.optimizers.Optimizer:
    """Return Adam, or AdamW where weights decay; `steps` is the number of batches in the whole training."""
    if not train.weight_decay:
        return tf.keras.optimizers.Adam(_learning_rate(train, steps), global_clipnorm=train.clip_norm)
    optimizer = tf.keras.optimizers.AdamW(
        _learning_rate(train, steps), weight_decay=train.weight_decay, global_clipnorm=train.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias:0$", "log_(decays|temperature|variances):0$"])
    return optimizer


def _learning_rate(train: Train, steps: int) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    if train.schedule == "constant":
        return train.learning_rate
    return tf.keras.optimizers.schedules.CosineDecay(train.learning_rate, steps)


def _tensorboard(directory: Path) -> tf.keras.callbacks.Callback:
    return tf.keras.callbacks.TensorBoard(os.fspath(directory), write_graph=False)


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
