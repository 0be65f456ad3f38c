"""The recipe's `[model]` and `[train]`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from workflows.config import PositiveInt, Section

Dropout = Annotated[float, Meta(ge=0.0, lt=1.0)]


class Model(Section, frozen=True, kw_only=True):
    """The two towers, `merlin.models.tf.MLPBlock` over the embedded features."""

    tower: tuple[PositiveInt, ...] = (
        128,
        64,
    )
    """Widths of the tower's layers; the last is the dimension of the vectors."""
    embedding_dim: PositiveInt = 64
    """Width of every embedding table."""
    dropout: Dropout = 0.3
    """On the concatenated inputs of each tower, during training."""
    temperature: Annotated[float, Meta(gt=0.0)] = 0.1
    """Cosine similarities are divided by it before the softmax."""


class Train(Section, frozen=True, kw_only=True):
    """How the towers are trained."""

    epochs: PositiveInt = 30
    """At most this many."""
    patience: PositiveInt = 5
    """Stop after this many epochs without a better validation figure."""
    batch_size: PositiveInt = 1024
    learning_rate: Annotated[float, Meta(gt=0.0)] = 0.003
    """Of Adam."""
    refit: bool = True
    """After the best number of epochs is known, train anew on training and validation rows together."""
