"""Which trainings stream their rows. Imports no TensorFlow: `retrieval.plan` asks as well."""

from __future__ import annotations

from typing import Final

STREAMED_FROM: Final = 1 << 20
"""Rows from which on they are streamed; fewer are held in memory, as tensors."""


def is_streamed(rows: int) -> bool:
    """Return whether so many training rows are streamed."""
    return rows >= STREAMED_FROM
