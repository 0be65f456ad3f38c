"""Weights of several models' scores for validation queries: greedy forward selection (Caruana et al., ICML 2004)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numba import njit

from models.config import BLEND_SCORES
from models.metrics import Float32Array, Int64Array, SeenItems
from models.towers.two_tower import TwoTowerModel
from models.training.early_stopping import Validation, encode_items, encode_rows

Member = TypeVar("Member", bound=Hashable)
TOWERS: Final = "towers"
STEPS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Weights tried for a model's scores beside what is chosen so far, both with a standard deviation of 1."""
ROUNDS: Final = 5
LEAST_GAIN: Final = 0.005
"""Relative: what helps less may be chance."""
K: Final = 50
"""Cut-off of the figure: at 10, few rows are found, and the figure jumps."""


class Board(NamedTuple):
    """Validation queries, what they are to find, and how the towers score them."""

    queries: Int64Array
    """Int64 `[queries]`, places among those of the validation."""
    targets: Int64Array
    """Int64 `[rows]`."""
    query: Int64Array
    """Int64 `[rows]`: each row's place in `queries`."""
    hidden: tuple[Int64Array, Int64Array]
    """`(query, item)` of items that may not be answered."""
    towers: Float32Array
    """Float32 `[queries, items]`, with a standard deviation of 1."""
    deviation: float
    """That of the towers' own scores."""
    figure_name: str

    @classmethod
    def of(cls, validation: Validation, tower: TwoTowerModel) -> Board:
        """Take the validation's queries, or some of them, and ask the towers."""
        items = encode_items(tower)
        count = int(validation.query.max()) + 1
        most = max(1, BLEND_SCORES // len(items))
        queries = np.sort(np.random.default_rng(0).permutation(count)[:most])
        rows = np.flatnonzero(np.isin(validation.query, queries))
        query = np.searchsorted(queries, validation.query[rows])
        asker = np.zeros(len(queries), np.int64)
        asker[query] = validation.users[rows]
        side = validation.monitor.split(".")[0]
        hidden = _hidden(validation.seen, asker) if side == "unseen" else (query[:0], query[:0])
        vectors = encode_rows(tower, validation.queries, queries)
        scores = vectors @ items.T
        deviation = float(scores.std())
        if not np.isfinite(deviation) or not deviation:
            scores, deviation = np.zeros_like(scores), 1.0
        board = cls(queries, validation.targets[rows], query, hidden, scores, deviation, f"{side}.ndcg@{K}")
        return board._replace(towers=board.masked(scores / np.float32(deviation)))

    def masked(self, scores: Float32Array) -> Float32Array:
        """Take the items that may not be answered out of the scores, in place."""
        scores[self.hidden] = -np.inf
        return scores

    def figure(self, scores: Float32Array) -> float:
        """Return the ndcg of scores, float32 `[queries, items]`: mean of 1 / log2(rank + 2), 0 past K."""
        return self.figures(scores, scores, (1,))[0]  # twice the scores: they rank alike

    def figures(self, scores: Float32Array, others: Float32Array, steps: Sequence[float]) -> list[float]:
        """Return the ndcg of `scores + step * others` for each step; no sum is held."""
        ranks = _ranks(scores, others, np.asarray(steps, np.float32), self.query, self.targets)
        return [float(figure) for figure in ((ranks < K) / np.log2(ranks + 2.0)).mean(axis=0)]


def mix(members: Mapping[Member, Float32Array], board: Board) -> tuple[dict[Member, float], dict[str, float]]:
    """Start from the best model, and add the one that helps most, with the weight that does, while one does.

    Returns
    -------
    tuple
        Weights by name, of models that count; and figures, of each model alone and of the blend.
    """
    alone = {name: board.figure(scores) for name, scores in members.items()}
    best = max(alone, key=alone.__getitem__)
    weights, figure, blended = {best: 1.0}, alone[best], members[best]
    for _ in range(ROUNDS if len(members) > 1 else 0):
        tried = {
            (name, step): value
            for name, scores in members.items()
            for step, value in zip(STEPS, board.figures(blended, scores, STEPS), strict=True)
        }
        name, step = max(tried, key=lambda pair: tried[pair])
        if tried[name, step] < figure * (1 + LEAST_GAIN):
            break
        blended, figure = blended + np.float32(step) * members[name], tried[name, step]
        weights[name] = weights.get(name, 0.0) + step
        deviation = float(blended[np.isfinite(blended)].std())
        blended /= np.float32(deviation)
        weights = {member: weight / deviation for member, weight in weights.items()}
    return weights, {**{f"{name} alone": value for name, value in alone.items()}, "blend": figure}


@njit  # not cached: where no folder can be written, Numba would refuse to begin
def _ranks(
    scores: Float32Array, others: Float32Array, steps: Float32Array, query: Int64Array, targets: Int64Array
) -> Int64Array:
    """Return where targets stand in `scores + step * others`, int64 `[rows, steps]`: behind those of the same score."""
    ranks = np.empty((len(query), len(steps)), np.int64)
    for row in range(len(query)):
        first, second, target = scores[query[row]], others[query[row]], targets[row]
        for at, step in enumerate(steps):
            own = first[target] + step * second[target]
            ahead = -1
            for item in range(len(first)):
                ahead += first[item] + step * second[item] >= own
            ranks[row, at] = ahead if np.isfinite(own) else len(first)
    return ranks


def _hidden(seen: SeenItems, askers: Int64Array) -> tuple[Int64Array, Int64Array]:
    rows, items = seen.pairs(askers)
    return rows, items
