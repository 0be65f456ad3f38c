"""Training ends where loss, weights or vectors are no longer finite: from there on nothing is learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.metrics import Float32Array
from models.training.early_stopping import Validation, encode_items
from workflows.errors import DivergedError, StageError

FEW = 1 << 10
"""Queries that are looked at after an epoch."""
_LOSSES = 64
"""Losses that are looked at together: to wait for each would hold up a GPU."""


class FiniteGuard(tf.keras.callbacks.Callback):
    """Looks at the losses of all steps, or of the last of those that Keras takes together, and after every epoch at
    weights and vectors; stands before all that keeps what it finds (validation, checkpoints).

    Parameters
    ----------
    what
        Names the training in messages.
    learning_rate
        What the recipe says, and the `section` of the recipe in which it does.
    features
        Those trained on, query and items: the message names the one with the largest number.
    queries
        Of these rows the vectors are looked at; a model without `query_vectors` needs none.
    validation
        Encodes the catalogue after every epoch, and shows the vectors to the guard, which else encodes it.
    """

    _supports_tf_logs = True

    def __init__(
        self,
        what: str,
        learning_rate: float,
        features: Iterable[Mapping[str, np.ndarray]],
        section: str = "train",
        queries: Mapping[str, Any] | None = None,
        validation: Validation | None = None,
    ) -> None:
        super().__init__()
        self._encodes_items = validation is None
        if validation is not None:
            validation.look = self.look
        self._what, self._rate, self._section = what, learning_rate, section
        numbers = ({name: of for name, of in side.items() if of.dtype.kind == "f"} for side in features)
        self._features, self._queries = list(numbers), queries  # codes, which take the most room, are not kept alive
        self._epoch, self._steps, self._losses = 0, [0], list[Any]()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the number, for messages."""
        self._epoch, self._steps = epoch, [0]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keep the loss of a step, and look at those of some steps together."""
        self._steps.append(batch + 1)
        self._losses.append((logs or {"loss": 0.0})["loss"])
        if len(self._losses) == _LOSSES:
            self._look()

    def _look(self) -> None:
        losses, steps = np.array([float(loss) for loss in self._losses]), self._steps
        self._losses, self._steps = [], steps[-1:]
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            first, last = steps[wrong[0]] + 1, steps[wrong[0] + 1]
            where = f"in step {last}" if first == last else f"in steps {first} to {last}"
            raise self.error(f"{where} the loss is {losses[wrong[0]]}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the last losses, at the weights, and at the vectors that they make."""
        self._look()
        for weight in self.model.trainable_variables:
            if not is_finite(weight):
                raise self.error(f"after it the weights {weight.name!r} are not finite")
        if self._queries is None:
            return
        some = {name: tf.convert_to_tensor(values[:FEW]) for name, values in self._queries.items()}
        self.look("query", self.model.query_vectors(some).numpy())
        if self._encodes_items:
            self.look("item", encode_items(self.model))

    def look(self, side: str, vectors: Float32Array) -> None:
        """Raise DivergedError unless all numbers of vectors, float32 `[n, d]`, are finite."""
        if not np.isfinite([vectors.min(), vectors.max()]).all():
            raise self.error(f"after it {side} vectors are not finite")

    def error(self, reason: str) -> DivergedError:
        """Return what to raise: where, what, and what to change."""
        name, value = largest_of(self._features)
        column = f", or clip the numbers of {name!r} (clip_min, clip_max): one is {value:.3g}" if name else ""
        return DivergedError(
            f"{self._what}, epoch {self._epoch + 1}: {reason}: the training diverged; lower {self._section}."
            f"learning_rate, {self._rate:g} now{column}"
        )


def is_finite(values: Any) -> bool:
    """Return whether all numbers of a tensor are finite; integers are."""
    return not values.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(values)))


def check_finite(model: Any, what: str) -> None:
    """Raise StageError unless all weights that training changes are finite; `what` says where they come from."""
    wrong = next((variable.name for variable in model.trainable_variables if not is_finite(variable)), None)
    if wrong is not None:
        raise StageError(f"{what}: the weights {wrong!r} are not finite: that training diverged; retrain")


def largest_of(features: Iterable[Mapping[str, np.ndarray]]) -> tuple[str, float]:
    """Return the feature of numbers that has the largest one, and this; "" where there is none."""
    largest = ("", 0.0)
    for name, values in (one for side in features for one in side.items()):
        if values.size:
            largest = max(largest, (name, float(np.abs(values).max())), key=lambda one: one[1])
    return largest
