"""Which trainings stream their rows. Imports no TensorFlow: `retrieval.plan` asks as well."""

from __future__ import annotations

from typing import Final

from models.config import Train

STREAMED_FROM: Final = 1 << 20
"""Rows from which on they are streamed; fewer are held in memory, as tensors."""


def is_streamed(rows: int, train: Train, warm_start: bool = False) -> bool:
    """Return whether so many training rows are streamed: whether they are many, and nothing needs all of them at once.

    `positives_weight` needs who has what, a teacher and tasks know rows by their numbers, and a warm start looks for
    those that are new.
    """
    needs_all = train.distillation or train.tasks or warm_start or train.objective.positives_weight < 1
    return rows >= STREAMED_FROM and not needs_all
