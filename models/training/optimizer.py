"""Adam, which updates large embedding tables sparsely, and the schedule of its learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from models.config import Train
from models.training.horovod import Ranks

NO_DECAY = ["bias:0$", "log_(decays|temperature|variances):0$"]


class LazyAdam(tf.keras.optimizers.Adam):
    """Adam, or AdamW with a weight decay, that leaves the rows of large tables alone which a step does not look up.

    Adam moves all rows of a table in every step, as their moments decay: a step costs as much as the table is large.
    For tables of `lazy_rows` rows or more moments, weights and weight decay change where the gradient has rows only, as
    in the LazyAdam of TensorFlow Addons and merlin-models, which are optimizers of the legacy kind. Their second moment
    is one number a row, that of the mean square of its gradient, as in FBGEMM's partial row-wise Adam.
    """

    def __init__(self, *args: Any, lazy_rows: int, name: str = "Adam", **settings: Any) -> None:
        super().__init__(*args, name=name, **settings)
        self.lazy_rows = lazy_rows

    def get_config(self) -> dict[str, Any]:
        """Return what makes another one of it, as Horovod does."""
        return {**super().get_config(), "lazy_rows": self.lazy_rows}

    def add_variable_from_reference(
        self, model_variable: tf.Variable, variable_name: str, shape: Any = None, initial_value: Any = None
    ) -> tf.Variable:
        """Create a moment; the second one of a large table is float32 `[rows, 1]`."""
        if variable_name == "v" and self._is_large(model_variable):
            shape = [model_variable.shape[0], 1]
        return super().add_variable_from_reference(model_variable, variable_name, shape, initial_value)

    def apply_gradients(self, grads_and_vars: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Update variables; sparse gradients of small tables become dense: cheaper than to make their rows distinct."""
        pairs = [(grad if self._is_large(variable) else _dense(grad), variable) for grad, variable in grads_and_vars]
        return super().apply_gradients(pairs, *args, **kwargs)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Update a variable; the rows of a sparse gradient are distinct."""
        if not self._is_large(variable):
            self._update_whole(gradient, variable)
        elif isinstance(gradient, tf.IndexedSlices):
            self._update_rows(gradient, variable)
        else:
            self._update_rows(tf.IndexedSlices(gradient, tf.range(variable.shape[0])), variable)

    def _update_whole(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update a variable as Keras does, in one pass over its numbers in place of a dozen."""
        place, step = self._index_dict[self._var_key(variable)], tf.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2 = (tf.constant(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, variable.dtype),
            grad=gradient,
        )

    def _update_rows(self, gradient: tf.IndexedSlices, variable: tf.Variable) -> None:
        rows, place = gradient.indices, self._index_dict[self._var_key(variable)]
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = self.learning_rate * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        mean, square = (tf.gather(moments[place], rows) for moments in (self._momentums, self._velocities))
        mean += (gradient.values - mean) * (1 - self.beta_1)
        squares = tf.reduce_mean(tf.square(gradient.values), axis=1, keepdims=True)
        square += (squares - square) * (1 - self.beta_2)
        self._momentums[place].scatter_update(tf.IndexedSlices(mean, rows))
        self._velocities[place].scatter_update(tf.IndexedSlices(square, rows))
        change = mean * (rate / (tf.sqrt(square) + self.epsilon))
        if self.weight_decay:
            change += self._decay(variable) * tf.gather(variable, rows)
        variable.scatter_sub(tf.IndexedSlices(change, rows))

    def _decay(self, variable: tf.Variable) -> tf.Tensor:
        decays = self.weight_decay and super()._use_weight_decay(variable)
        return self.learning_rate * self.weight_decay if decays else 0.0

    def _use_weight_decay(self, variable: tf.Variable) -> bool:
        return not self._is_large(variable) and super()._use_weight_decay(variable)

    def _is_large(self, variable: tf.Variable) -> bool:
        return variable.name.endswith("/embeddings:0") and variable.shape[0] >= self.lazy_rows


def _dense(gradient: tf.Tensor | tf.IndexedSlices | None) -> tf.Tensor | None:
    return tf.convert_to_tensor(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient


def build_optimizer(train: Train, steps: int, ranks: Ranks) -> tf.keras.optimizers.Optimizer:
    """Return Adam, or AdamW where weights decay; `steps` is the number of batches in the whole training."""
    settings: dict[str, Any] = {"weight_decay": train.weight_decay or None, "global_clipnorm": train.clip_norm}
    adam = LazyAdam(_learning_rate(train, steps), lazy_rows=train.lazy_rows, **settings)
    optimizer = ranks.optimizer(adam)  # which makes another one, that has to be told what is excluded
    if train.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return optimizer


def _learning_rate(train: Train, steps: int) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    if train.schedule == "constant":
        return train.learning_rate
    return tf.keras.optimizers.schedules.CosineDecay(train.learning_rate, steps)
