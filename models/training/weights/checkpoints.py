"""Checkpoints from which an interrupted training goes on: weights, optimizer, and what validation has found."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from models.training.early_stopping import Validation
from models.training.horovod import Ranks
from models.training.weights.finite import check_finite
from workflows.files import atomic_directory, atomic_write
from workflows.progress import Progress

_STATE, _KEY = "state.json", "key"


class Checkpoints:
    """The checkpoints of one training.

    Rank 0 reads and writes them, and tells the others.

    Parameters
    ----------
    directory
        Removed by who asked for the training, once it is done. None: nothing is kept.
    key
        What the training depends on, in a word; what another key left is not looked at.
    seconds
        The least time between two checkpoints. An epoch's end is the only time for one.
    """

    def __init__(self, directory: Path | None = None, key: str = "", seconds: float = 60.0) -> None:
        self.directory, self._key, self._seconds = directory, key, seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last checkpoint, or the start, is long enough ago."""
        return self.directory is not None and time.monotonic() - self._last >= self._seconds

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what a phase left, None where it left nothing, or something of another key."""
        if self.directory is None:
            return None
        try:
            state: dict[str, Any] = json.loads((self.directory / name / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return state if state.get("key") == self._key else None

    def write(self, name: str, state: dict[str, Any], saved: _Saved) -> None:
        """Replace a phase's checkpoint: whenever this is interrupted, the old one or the new one is whole."""
        assert self.directory is not None
        place = self.directory / name
        place.mkdir(parents=True, exist_ok=True)
        prefix = f"epoch-{state['epoch']}"
        for old in place.glob(f"{prefix}.*"):
            old.unlink()
        saved.checkpoint.write(str(place / prefix))
        if saved.best is not None:
            for file in saved.best.parent.glob(f"{saved.best.name}.*"):
                shutil.copyfile(file, place / file.name.replace(saved.best.name, f"{prefix}.best", 1))
        atomic_write(place / _STATE, json.dumps({**state, "key": self._key}).encode())
        for old in place.iterdir():
            if old.name != _STATE and not old.name.startswith(f"{prefix}."):
                old.unlink()
        self._last = time.monotonic()

    def files(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a directory of files that `write` has written, which is not done again while the key is the same."""
        assert self.directory is not None  # rows are streamed where there is a run
        place = self.directory / name
        key = place / _KEY
        if key.exists() and key.read_text(encoding="utf-8") == self._key:
            return place
        for old in (place, *self.directory.glob(f".{name}.*")):  # the latter of processes that were killed
            shutil.rmtree(old, ignore_errors=True)
        with atomic_directory(place) as out:
            write(out)
            (out / _KEY).write_text(self._key, encoding="utf-8")
        return place


class _Saved(NamedTuple):
    checkpoint: tf.train.Checkpoint
    best: Path | None


class Phase(tf.keras.callbacks.Callback):
    """Writes one model's checkpoints after its epochs; stands behind `Validation`, whose findings are kept as well."""

    def __init__(self, session: Session, name: str, validation: Validation | None) -> None:
        super().__init__()
        (self.ranks, self._all), self.name, self.validation = session, name, validation
        self._state: dict[str, Any] | None = self.ranks.told(self._all.read(name) if self.ranks.leads else None)

    @property
    def epochs_done(self) -> int:
        """How many epochs an interrupted training had behind it."""
        return int(self._state["epoch"]) if self._state else 0

    @property
    def is_over(self) -> bool:
        """Whether it had come to its end."""
        return bool(self._state and self._state["over"])

    def files(self, name: str, write: Callable[[Path], None]) -> Path:
        """Return a directory of files that rank 0 writes for all, where an interrupted training has not done it."""
        place = self._all.files(f"{self.name}-{name}", write) if self.ranks.leads else None
        return Path(self.ranks.told(place))

    def tell(self, progress: Progress) -> None:
        """Say where the training goes on, if it was interrupted."""
        if self._state is not None:
            after = "its end" if self.is_over else f"epoch {self.epochs_done}"
            progress(f"{self.name}: going on after {after}, the last checkpoint")

    def restore(self, model: Any, batches: tf.data.Dataset) -> None:
        """Give model and validation what they had; the ranks' models then are one and the same.

        Raises
        ------
        StageError
            A weight in the checkpoint is not finite.
        """
        if self._state is None and self.ranks.size == 1:
            return
        # The weights of model and optimizer exist from here on, without a step. An iterator would take the first order
        # of the rows away from the first epoch.
        model.make_train_function()
        model.train_function.get_concrete_function(tf.data.IteratorSpec(batches.element_spec))
        if self._state is not None and self.ranks.leads:
            self._read(model)
        if self._state is not None and self.validation is not None:
            self.validation.resume(self._state["validation"])
        self.ranks.copy([*model.trainable_variables, *_variables(model.optimizer)])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint where one is due."""
        if self.ranks.leads and self._all.is_due():
            self._write(epoch + 1, over=False)

    def finish(self, model: Any, epochs: int) -> None:
        """Note that the training is over, and with which weights, where it took long enough."""
        if self.ranks.leads and not self.is_over and self._all.is_due():
            self.set_model(model)
            self._write(epochs, over=True)

    def _write(self, epoch: int, over: bool) -> None:
        measured = self.validation.found() if self.validation else None
        best = self.validation.checkpoint if self.validation else None
        checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
        self._all.write(self.name, {"epoch": epoch, "over": over, "validation": measured}, _Saved(checkpoint, best))

    def _read(self, model: Any) -> None:
        assert self._all.directory is not None
        validation = self.validation
        place = self._all.directory / self.name
        prefix = f"epoch-{self.epochs_done}"
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        checkpoint.read(str(place / prefix)).assert_existing_objects_matched()
        check_finite(model, f"{place}: the checkpoint, which can be removed")
        if validation is not None:
            validation.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            for file in place.glob(f"{prefix}.best.*"):
                name = file.name.replace(f"{prefix}.best", validation.checkpoint.name, 1)
                shutil.copyfile(file, validation.checkpoint.parent / name)


class Session(NamedTuple):
    """What a training shares with other processes, and with its own earlier attempts."""

    ranks: Ranks
    checkpoints: Checkpoints

    def phase(self, name: str, validation: Validation | None = None) -> Phase:
        """Return the checkpoints of one model's training: `search`, `refit-1`, ..."""
        return Phase(self, name, validation)


ALONE = Session(Ranks(), Checkpoints())
"""Shares nothing."""


def _variables(optimizer: Any) -> list[tf.Variable]:
    variables = optimizer.variables
    return list(variables() if callable(variables) else variables)
