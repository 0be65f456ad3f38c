"""Stage train: features to towers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow as tf
from msgspec import structs

from models.config import Model, Train
from models.towers.augmentation import augmented_loss
from models.towers.blending import BlendedTowers
from models.towers.two_tower import TwoTowerModel
from models.training.blending import Blending, blended, check_blend, choose
from models.training.cost import Meter
from models.training.early_stopping import OnEpoch, Validation
from models.training.export import export_towers
from models.training.horovod import Ranks
from models.training.learned import learned_from
from models.training.losses.tasks import served_rows
from models.training.optimizer import build_optimizer
from models.training.precision import Compute, copy_weights
from models.training.rows import validation_rows
from models.training.weights.checkpoints import ALONE, Phase, Session
from models.training.weights.finite import FEW, FiniteGuard, check_finite
from models.training.weights.warm_start import PHASES, Earlier, PhaseName, Start, going_on
from workflows.config import Device
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSet, Sample
from workflows.files import json_bytes
from workflows.progress import Progress, regularly

STEP_SECONDS = 10.0
"""An epoch that takes longer says so often how far it is."""
STEPS_TOGETHER = 8
"""Steps that TensorFlow takes before Python has a turn, which took a twentieth of the time of small ones."""
BOTH = ("train", "valid")
"""The parts that a model is retrained on."""


def train(
    data: FeatureSet,
    model: Model,
    train: Train,
    seed: int,
    device: Device,
    out: Path,
    progress: Progress,
    on_epoch: OnEpoch | None = None,
    earlier: Earlier | None = None,
    session: Session = ALONE,
) -> None:
    """Train the towers on features and export them; with `earlier` towers go on from these (`warm_start`).

    Early stopping on the validation part finds the number of epochs; with `refit` a new model is then trained for as
    many epochs on training and validation rows together. `out` gets `query.onnx`, `item.onnx`, `item_vectors.npy`,
    `towers.json`, `history.json`, `cost.json`, `checkpoints/` and `tensorboard/`, with tasks also `tasks.npz`, with a
    blend `blend.json` and `factors.npz`.

    Parameters
    ----------
    data
        The features, with all rows of training and validation.
    model, train
        The towers and how they are trained, as the recipe has them.
    seed
        Of the weights and of the order of rows.
    device
        Where TensorFlow computes.
    out
        The folder to write to.
    progress
        Is called with a line for each epoch.
    on_epoch
        Is called after each epoch of the search with its number, from 1, and the monitored figure; what it raises ends
        the training.
    earlier
        Towers of a run to start from.
    session
        What is shared with other Horovod processes, all of which train while the first one writes, and with earlier
        attempts of this training.

    Raises
    ------
    RecipeError
        `device` is `gpu` and TensorFlow sees none; or ratings or events do not allow what the recipe does with them; or
        a batch cannot be divided over the ranks.
    DivergedError
        Loss, weights or vectors are not finite; names epoch and step, and what to change.
    StageError
        Another rank ended, or what the training goes on from is not finite.
    """
    meter, ranks = Meter(), session.ranks
    ranks.batch_share(train.batch_size)
    check_blend(model, train, data)
    if earlier:
        train = going_on(train)
    if train.validation_rows is not None and data.stored is None:
        data = data._replace(sample=Sample(train.validation_rows, 0))
    valid, histories = validation_rows(data)
    valid = served_rows(valid, train.tasks)
    with ranks.together(), tf.device(_device_name(device, ranks)):
        best, trained = out / "checkpoints" / "best", earlier is not None
        validation = Validation((valid, histories), data.train, train, best, progress, on_epoch, ranks, trained)
        starts = {name: Start(earlier, data, model, train, name) for name in PHASES} if earlier else {}
        trainer = _Trainer(data, model, train, seed, session, starts, out, progress)
        towers, epochs = trainer.search(validation)
        chosen = None
        if model.blend:
            chosen = choose(towers[-1], data, validation, model.blend, train.objective.rating, progress)
        if train.refit and not (chosen and chosen.share == 0):  # else nothing is served of the towers
            towers.append(trainer.retrain(towers, epochs))
        if ranks.leads:
            tower = trainer.export(towers[-1], chosen, epochs, validation)
            meter.write(tower, validation.history, out)


@dataclass(frozen=True)
class _Trainer:
    """Trains the models of a recipe: that of the search, and those on training and validation rows."""

    data: FeatureSet
    model: Model
    settings: Train
    seed: int
    session: Session
    starts: Mapping[PhaseName, Start]
    """Of a warm start."""
    out: Path
    progress: Progress

    def search(self, validation: Validation) -> tuple[list[TwoTowerModel], int]:
        """Train until validation no longer gets better; return the towers, and how many epochs were best.

        A warm start may go without: there are no towers then.
        """
        start = self.starts.get("search")
        if start and not start.settings.search:
            return [], self.settings.epochs
        phase = self.session.phase("search", validation)
        tower = self._trained(phase, ("train",), self.seed, self.settings.epochs, [validation], start=start)
        return [tower], validation.best_epoch

    def retrain(self, searched: Sequence[TwoTowerModel], epochs: int) -> TwoTowerModel:
        """Train on training and validation rows together; with distillation as many generations as it says."""
        towers, distillation, start = list(searched), self.settings.distillation, self.starts.get("refit")
        generations = distillation.generations if distillation else 0
        model = self.model
        if generations and distillation and distillation.dropout is not None:
            model = structs.replace(model, dropout=distillation.dropout)
        trainer = replace(self, model=model)
        for generation in range(1, 1 + max(1, generations)):
            self.progress(f"retraining on training and validation rows, {epochs} epochs")
            teachers = towers if generations else []
            # Other initial weights than the teachers': what they all agree on is then less of chance.
            seed, phase = self.seed + len(teachers), self.session.phase(f"refit-{generation}")
            line = _EpochLine(epochs, self.progress)
            towers.append(trainer._trained(phase, BOTH, seed, epochs, [line], teachers, start))
        return towers[-1]

    def _trained(
        self,
        phase: Phase,
        parts: Sequence[str],
        seed: int,
        epochs: int,
        watching: Sequence[tf.keras.callbacks.Callback],
        teachers: Sequence[TwoTowerModel] = (),
        start: Start | None = None,
    ) -> TwoTowerModel:
        """Train a new model on those rows of `parts` that there is a use for, with teachers also by these."""
        data, model, train, ranks = self.data, self.model, self.settings, phase.ranks
        phase.tell(self.progress)
        tf.keras.utils.set_random_seed(ranks.seed(seed))
        tf.config.experimental.enable_op_determinism()
        learned = learned_from(data, parts, model, train, teachers, start, phase, seed, self.progress)
        rows = learned.rows
        loss = augmented_loss(learned.loss, model.augmentation, rows.counts, data)
        tower = TwoTowerModel(
            data.query_specs, data.item_specs, data.items, model, loss, data.pretrained, _compute(train)
        )
        tower.heads = learned.heads
        batches = rows.batches(train.batch_size, seed + phase.epochs_done, ranks)
        optimizer = build_optimizer(train, max(1, epochs) * len(batches), ranks)
        together = 1 if ranks.size > 1 else min(STEPS_TOGETHER, len(batches))
        tower.compile(optimizer=_compute(train).optimizer(optimizer), steps_per_execution=together)
        if start:
            start.give(tower)
            check_finite(tower, "the earlier run's towers")
        phase.restore(tower, batches)
        if not phase.is_over:
            numbers = [rows.numbers, data.items]
            rate, few = train.learning_rate, rows.first(FEW)
            guard = FiniteGuard(phase.name, rate, numbers, queries=few, validation=phase.validation)
            logs = _tensorboard(self.out / "tensorboard" / phase.name, ranks)
            callbacks = [guard, _StepLine(self.progress), *watching, *logs, phase]
            tower.fit(batches, epochs=epochs, initial_epoch=phase.epochs_done, callbacks=callbacks, verbose=0)
            phase.finish(tower, epochs)
        return tower

    def export(
        self, tower: TwoTowerModel, chosen: Blending | None, epochs: int, validation: Validation
    ) -> TwoTowerModel:
        """Write the towers, with what was chosen beside them, and how validation went; return them in float32."""
        if self.settings.refit:
            tower.save_weights(self.out / "checkpoints" / "refit")
        if self.settings.mixed_precision:
            tower = _in_float32(tower, self.data, self.model, validation.queries.first(1))
        (self.out / "history.json").write_bytes(json_bytes(validation.history))
        export_towers(self._blended(tower, chosen) if chosen else tower, self.data, epochs, self.out)
        if tower.heads is not None:
            tower.heads.save(self.out)
        return tower

    def _blended(self, tower: TwoTowerModel, chosen: Blending) -> TwoTowerModel | BlendedTowers:
        (self.out / "blend.json").write_bytes(json_bytes(chosen.described(), 2))
        parts, rating = BOTH if self.settings.refit else ("train",), self.settings.objective.rating
        served = blended(tower, self.data, parts, chosen, self.model, rating)
        if isinstance(served, BlendedTowers):
            served.save(self.out)
        return served


def _compute(train: Train) -> Compute:
    return Compute(train.mixed_precision, train.xla)


def _in_float32(trained: TwoTowerModel, data: FeatureSet, model: Model, query: dict[str, tf.Tensor]) -> TwoTowerModel:
    """Return towers of the same weights that compute in float32, as the exported ones do."""
    tower = TwoTowerModel(data.query_specs, data.item_specs, data.items, model)
    copy_weights(trained, tower, query)
    tower.heads = trained.heads
    return tower


def _tensorboard(directory: Path, ranks: Ranks) -> list[tf.keras.callbacks.Callback]:
    return [tf.keras.callbacks.TensorBoard(os.fspath(directory), write_graph=False)] if ranks.leads else []


def _device_name(device: Device, ranks: Ranks) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    ranks.pin(gpus)
    if device == "gpu" and not gpus:
        raise RecipeError('device = "gpu", but TensorFlow sees no GPU; use "auto" or "cpu", or the NGC image')
    return "/GPU:0" if gpus and device != "cpu" else "/CPU:0"


class _StepLine(tf.keras.callbacks.Callback):
    """A line every STEP_SECONDS of an epoch."""

    _supports_tf_logs = True  # it reads none: nothing waits for the device

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        message = f"epoch {epoch + 1}: {{:,}} of {{:,}} steps"
        self._report = regularly(self.progress, message, self.params["steps"], STEP_SECONDS)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._report(batch + 1)


class _EpochLine(tf.keras.callbacks.Callback):
    """One line per epoch."""

    def __init__(self, epochs: int, progress: Progress) -> None:
        super().__init__()
        self.epochs, self.progress = epochs, progress

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.progress(f"epoch {epoch + 1} of {self.epochs}: loss {(logs or {})['loss']:.3f}")
