"""Which settings a peer is fitted with: those that find most validation rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from models.baselines.als import Als
from models.baselines.baseline import Peer
from models.baselines.ease import Ease
from models.baselines.item_knn import ItemKnn
from models.baselines.popularity import Popularity
from models.baselines.task import Task
from models.metrics import Ranking

CHOSEN_BY = "recall@10"
"""Of unseen items, on validation rows."""
_VALIDATION_ROWS = 20_000

PEERS: Mapping[str, Sequence[Peer]] = {
    "popularity": [Popularity()],
    "item KNN": [ItemKnn(neighbours, shrinkage) for neighbours in (50, 100, 200) for shrinkage in (0, 10, 50)],
    "EASE": [Ease(l2) for l2 in (100, 200, 500, 1000, 2000)],
    "ALS": [
        Als(factors, regularization, alpha)
        for factors in (16, 32, 64, 128)
        for regularization, alpha in ((10, 1), (30, 1), (10, 5))
    ],
}
"""Names, and the settings that are tried for each."""


class Fitted(NamedTuple):
    """A peer fitted with its best settings, and how well it does."""

    peer: Peer
    rankings: dict[str, Ranking]
    """Of the test rows."""
    search_seconds: float
    fit_seconds: float
    """Of the last fit alone, on training and validation rows."""


def fit_best(candidates: Sequence[Peer], valid: Task, test: Task, seed: int = 0) -> Fitted:
    """Choose among the candidates on validation rows, fit that one on all known rows, rank the test rows.

    Raises
    ------
    Refused
        It cannot be fitted here.
    """
    start = time.perf_counter()
    peer = choose(candidates, valid.sample(_VALIDATION_ROWS, seed))
    chosen = time.perf_counter()
    scores = peer.fit(test.interactions)
    fitted = time.perf_counter()
    return Fitted(peer, test.rank(scores), chosen - start, fitted - chosen)


def choose(candidates: Sequence[Peer], valid: Task) -> Peer:
    """Return the candidate that finds most validation rows; the first of equals."""
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda peer: _found(peer, valid))


def _found(peer: Peer, valid: Task) -> float:
    return valid.rank(peer.fit(valid.interactions))["unseen"].metrics()[CHOSEN_BY]
