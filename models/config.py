"""The recipe's `[model]` and `[train]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from workflows.config import PositiveInt, Section

Rate = Annotated[float, Meta(ge=0.0, lt=1.0)]
Monitor = Literal[
    "all.recall@10", "all.recall@100", "all.ndcg@10", "unseen.recall@10", "unseen.recall@100", "unseen.ndcg@10"
]


class Model(Section, frozen=True, kw_only=True):
    """The two towers, `merlin.models.tf.MLPBlock` over the embedded features."""

    tower: tuple[PositiveInt, ...] = (128, 64)
    """Widths of the tower's layers; the last is the dimension of the vectors."""
    embedding_dim: PositiveInt = 64
    """Width of an embedding table; small vocabularies get narrower ones."""
    dropout: Rate = 0.5
    """On the concatenated inputs of each tower, during training."""
    hidden_dropout: Rate = 0.0
    """Between the layers of each tower, during training."""
    unseen_rate: Rate = 0.02
    """How often a known id is shown to the towers as unseen during training, so that unknown users and new items get
    a trained vector."""
    history_decay_seconds: tuple[Annotated[float, Meta(gt=0.0)], ...] = (30.0, 600.0, 86400.0)
    """A history is pooled by its plain mean and once per entry by exp(-age / entry): what happened in the last half
    minute, ten minutes, day. The values are where training starts from; it moves them."""
    history_dropout: Rate = 0.3
    """How often an interaction is left out of a history during training."""
    temperature: Annotated[float, Meta(gt=0.0)] = 0.2
    """Cosine similarities are divided by it before the softmax."""


class Train(Section, frozen=True, kw_only=True):
    """How the towers are trained."""

    epochs: PositiveInt = 30
    """At most this many."""
    patience: PositiveInt = 5
    """Stop after this many epochs without a better `monitor`."""
    monitor: Monitor = "unseen.recall@10"
    """The validation figure that decides which epoch is best."""
    batch_size: PositiveInt = 1024
    learning_rate: Annotated[float, Meta(gt=0.0)] = 0.003
    """Of Adam (Kingma and Ba 2015)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the rate falls to zero over `epochs` along half a cosine (Loshchilov and Hutter 2017)."""
    refit: bool = True
    """After the best number of epochs is known, train anew on training and validation rows together."""
