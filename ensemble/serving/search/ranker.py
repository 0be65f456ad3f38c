"""Pre-ranking: reorders retrieved candidates by a model of query and candidate.

The ranker is an ONNX graph from a query's features, its vector and its candidates' sides to scores. The sides hold what
depends on an item alone; training computes them and the release stores them. Every row is scored by itself, so that its
answer does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..errors import InvalidRelease, InvalidRequest
from ..files.release import Release
from ..names import ITEM_SIDES, QUERY_VECTOR
from ..query.graph import Graph
from .candidates import RANKER, SIDES, candidates_of
from .search import Found

_Array = np.ndarray


class Ranker:
    """Rescores the candidates of each query."""

    def __init__(self, release: Release, features: Collection[str]) -> None:
        """Load the ranker of a verified release; `features` are the names of the query's features.

        Raises InvalidRelease where graph, sides and release do not fit each other.
        """
        self.candidates = candidates_of(release)
        self._sides = _sides(release)
        place = release.path / RANKER
        self._graph = Graph(place, "score", int(release.manifest["serving"]["threads"]))
        self.inputs = [tensor.name for tensor in self._graph.inputs]
        """Names of its inputs: features and others."""
        missing = set(self.inputs) - {*features, QUERY_VECTOR, ITEM_SIDES}
        if missing:
            raise InvalidRelease(f"{place}: wants {', '.join(sorted(missing))}, which the transform does not make")

    @property
    def items(self) -> int:
        """Return the number of items with sides."""
        return len(self._sides)

    def rank(
        self,
        features: Mapping[str, _Array],
        vectors: _Array,
        candidates: _Array,
        top_k: _Array,
        least: _Array | None = None,
    ) -> Found:
        """Return the `top_k`, int64 [n], best candidates of each row, given the query's features and vectors.

        `candidates` are item indices, int64 [n, m], in order of retrieval, which breaks ties, -1 past the last; `least`
        the minimum scores, float32 [n].

        Raises InvalidRequest: a score is not finite, because a feature was too large; names the row.
        """
        width = min(int(top_k.max()), candidates.shape[1])
        counts = np.zeros(len(candidates), dtype=np.int32)
        item_index = np.full((len(candidates), width), -1, dtype=np.int64)
        score = np.full((len(candidates), width), -np.inf, dtype=np.float32)
        held = (candidates >= 0).sum(axis=1).tolist()
        for row, count in enumerate(held):
            if not count:
                continue
            own = candidates[row, :count]
            scores = self._scores(features, vectors, own, row)
            order = (-scores).argsort(kind="stable")[: min(int(top_k[row]), count)]
            if least is not None:
                order = order[scores[order] >= least[row]]
            counts[row] = len(order)
            item_index[row, : len(order)], score[row, : len(order)] = own[order], scores[order]
        return Found(item_index, score, counts)

    def _scores(self, features: Mapping[str, _Array], vectors: _Array, items: _Array, row: int) -> _Array:
        row_inputs = {QUERY_VECTOR: vectors[row : row + 1], ITEM_SIDES: self._sides.take(items, axis=0)[None]}
        feed = {name: row_inputs[name] if name in row_inputs else features[name][row : row + 1] for name in self.inputs}
        scores = self._graph(feed)
        if scores.shape != (1, len(items)):
            raise InvalidRelease(f"{RANKER}: {scores.shape} scores of {len(items)} candidates; release it again")
        if not np.isfinite(scores).all():
            raise InvalidRequest(f"row {row}: a candidate has no finite score; a number in the query is too large")
        return scores[0]


def _sides(release: Release) -> _Array:
    sides = release.array(SIDES, np.float32, dimensions=2)
    items = release.header("items/vectors.npy").shape[0]
    if len(sides) != items or not np.isfinite(sides).all():
        raise InvalidRelease(f"{release.path / SIDES}: {sides.shape}, expected finite numbers of the {items} items")
    return sides
