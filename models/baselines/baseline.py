"""What every peer is: settings, and `fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import psutil
from scipy.sparse import csr_matrix

from models.metrics import Float32Array, Int64Array

Scores = Callable[[Int64Array], Float32Array]
"""From users, int64 `[n]`, to their scores for every item, float32 `[n, items]`."""


@dataclass(frozen=True)
class SameForAll:
    """`Scores` that do not depend on the user: the order of the items is then found once."""

    values: Float32Array
    """Float32 `[items]`."""

    def __call__(self, users: Int64Array) -> Float32Array:
        """Return the scores of every user, float32 `[users, items]`."""
        return np.broadcast_to(self.values, (len(users), len(self.values)))


MEMORY = 8 << 30
"""Bytes that a peer may take, and never more than half of what is free."""


class Refused(Exception):
    """A peer that cannot be fitted here; the message says why. The others go on."""


class Peer(Protocol):
    """A model with its settings."""

    def fit(self, interactions: csr_matrix, later: csr_matrix | None = None) -> Scores:
        """Learn from a `[users, items]` float32 matrix of zeros and ones.

        `later` has an entry for each of them: how many of the user's items came after it. None where rows have no time.

        Raises
        ------
        Refused
            A library is missing, or the catalogue is too large for this kind of model.
        """
        ...

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        ...


def check_memory(what: str, needed: int) -> None:
    """Raise `Refused` if `needed` bytes are more than a peer may take."""
    allowed = min(MEMORY, psutil.virtual_memory().available // 2)
    if needed > allowed:
        raise Refused(f"{what} takes {needed / 2**30:,.1f} GiB; {allowed / 2**30:,.1f} GiB may be used")


def or_popular(scores: Scores, interactions: csr_matrix) -> Scores:
    """Give users without any interaction, about whom such a model knows nothing, the popular items."""
    newcomer = np.diff(interactions.indptr) == 0
    counts = popularity(interactions)

    def answer(users: Int64Array) -> Float32Array:
        answers = scores(users)
        answers[newcomer[users]] = counts
        return answers

    return answer


def popularity(interactions: csr_matrix) -> Float32Array:
    """Return how many users each item has, float32 `[items]`."""
    return np.bincount(interactions.indices, minlength=interactions.shape[1]).astype(np.float32)
