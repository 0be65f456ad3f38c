"""Gates that learn which fields are worth what they cost (FSCD, Ma et al., SIGIR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from models.metrics import Float32Array
from models.ranking.config import FieldSelection

TEMPERATURE = 0.1
"""Of the relaxed gates (the concrete distribution, Maddison et al. 2017), as in the paper."""
SPEED = 30.0
"""Of a gate's logit against the other weights: Adam moves each by its rate a step, too little for a gate to decide."""
Kind = Literal["item", "query", "both"]
_COMPUTATION: dict[Kind, int] = {"item": 0, "query": 1, "both": 2}


class Field(NamedTuple):
    """One field of the network."""

    name: str
    kind: Kind
    width: int
    """Numbers that it is embedded to."""
    codes: int = 0
    """Rows of its table; 0: it has none."""


def complexity(field: Field, settings: FieldSelection) -> float:
    """Return what a field costs: its computation, width and codes, weighted."""
    return (
        settings.computation * _COMPUTATION[field.kind]
        + settings.width * field.width / 64
        + settings.codes * float(np.log10(1 + field.codes))
    )


class Gates(tf.keras.layers.Layer):
    """One gate per field: relaxed draws while training, the probability of being open otherwise."""

    def __init__(self, fields: Sequence[Field], settings: FieldSelection) -> None:
        super().__init__()
        self.settings = settings
        self.costs = tf.constant([complexity(field, settings) for field in fields], tf.float32)

    def build(self, input_shape: object) -> None:
        """Create the logits of the probabilities, 0: even chances."""
        self.scaled = self.add_weight("gates", shape=self.costs.shape, initializer="zeros")

    @property
    def logits(self) -> tf.Tensor:
        """Return the logits of the probabilities, float32 `[fields]`."""
        return SPEED * self.scaled

    def call(self, _: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return every field's gate, float32 `[fields]` from 0 to 1, the same for all rows of a batch."""
        if not training:
            return tf.sigmoid(self.logits)
        return relaxed(self.logits, tf.random.uniform(self.costs.shape, 1e-6, 1 - 1e-6))

    def prior(self) -> tf.Tensor:
        """Return the expected cost of the open gates, a scalar.

        A gate that is open with prior probability 1 - sigmoid(c) has, open, a negative log prior larger by c.
        """
        return self.settings.weight * tf.reduce_sum(self.costs * tf.sigmoid(self.logits))

    def probabilities(self) -> Float32Array:
        """Return how probably each field is open, float32 `[fields]`."""
        return np.asarray(tf.sigmoid(self.logits), np.float32)


def selected(fields: Sequence[Field], probabilities: Float32Array, keep: float) -> list[str]:
    """Return the names of the fields to keep: those open often enough, and of query and item the best in any case."""
    chosen = probabilities >= keep
    for kind in ("query", "item"):
        own = [place for place, field in enumerate(fields) if field.kind == kind]
        if own and not chosen[own].any():
            chosen[max(own, key=lambda place: float(probabilities[place]))] = True
    return [field.name for field, is_chosen in zip(fields, chosen, strict=True) if is_chosen]


def relaxed(logits: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Return draws of the concrete distribution, of logits and uniform draws: sigmoid((l + log u - log(1 - u)) / t)."""
    return tf.sigmoid((logits + tf.math.log(uniform) - tf.math.log(1.0 - uniform)) / TEMPERATURE)
