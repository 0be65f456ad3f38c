"""Which trainings stream their rows. Imports no TensorFlow: `retrieval.plan` asks as well."""

from __future__ import annotations

from typing import Final

from models.config import Model, Sampled, Train

STREAMED_FROM: Final = 1 << 20
"""Rows from which on they are streamed; fewer are held in memory, as tensors."""


def is_streamed(rows: int, model: Model, train: Train, warm_start: bool = False) -> bool:
    """Return whether so many training rows are streamed: whether they are many, and nothing needs all of them at once.

    A softmax over the catalogue and `positives_weight` need who has what, a blend fits simple models, a teacher and
    tasks know rows by their numbers, and a warm start looks for those that are new.
    """
    objective = train.objective
    needs_all = model.blend or train.distillation or train.tasks or warm_start or objective.positives_weight < 1
    return rows >= STREAMED_FROM and isinstance(objective.candidates, Sampled) and not needs_all
