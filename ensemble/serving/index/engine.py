"""The interface of an index engine. `engines` lists them; docs/extending.md shows how to add one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidRequest
from ..files.parameters import Fields
from ..files.schema import METRICS, MOST_ROWS, Schema, choice, integer, of_names, or_null, real
from ..search.masks import ItemMask
from . import costs
from .inverted_lists import Probes
from .vectors import scores

PARAMETERS = "index/params.json"
LARGEST = 1e12
_SPARE = 16
_BLOCK_ROWS = 1 << 16
"""Candidates whose vectors are gathered at a time."""


def _points(fields: Fields, key: str) -> None:
    """Check the measured searches and that one of them was chosen."""
    for point in fields.objects(key):
        point.text("kind")
        _SETTINGS(point, "search")
        for name in point.names:
            point.number(name)


_SETTINGS = of_names(or_null(real(0.0, LARGEST)))
COMMON: Schema = {
    "format": integer(1, 1),
    "pairing": Fields.digest,
    "metric": choice(*METRICS),
    "items": integer(1, MOST_ROWS),
    "is_exact": Fields.flag,
    "recall_target": real(0.0, 1.0),
}
"""What `index/params.json` says of every kind of index."""
OPTIONAL: Schema = {"target_met": Fields.flag, "frontier": _points, "measured": of_names(real(0.0, LARGEST))}


class Plan(NamedTuple):
    """How a group of rows with one filter is searched."""

    way: str
    """`scan`, `gather` or `index`."""
    probes: Probes | None = None
    """For `index`: the lists to read for these rows; None: the index decides."""
    cost: float = 0.0
    """What the rows take, in nanoseconds of one core."""

    def of(self, rows: slice) -> Plan:
        """Return the plan for some of the rows."""
        if self.probes is None:
            return self
        return self._replace(probes=Probes(self.probes.distances[rows], self.probes.lists[rows], self.probes.reads))


class Engine:
    """Names candidates, among which the release's own vectors decide. A new engine needs `candidates`, `reads` and, if
    it can filter, `takes`.
    """

    is_remote: bool = False
    """Whether it is asked even where comparing all items would be cheaper."""
    most_removed: float = math.inf
    """Up to that many removed items are made up for by more candidates; more of them become a filter."""

    def __init__(self, vectors: np.ndarray, parameters: Mapping[str, Any], items: int | None = None) -> None:
        """Take the release's item vectors, float32 [rows, d], `index/params.json`, and the number of rows that it
        holds.
        """
        self.vectors = vectors
        self.kind: str = parameters["kind"]
        self.metric: str = parameters["metric"]
        self.settings: dict[str, Any] = dict(parameters["search"])
        self.items = int(parameters["items"] if items is None else items)
        """How many of the catalogue's first rows it holds; the caller compares the others."""
        self.is_exact = bool(parameters.get("is_exact", False))
        self.recall_target = float(parameters.get("recall_target", 0.95))

    def candidates(
        self,
        queries: np.ndarray,
        fetch: int,
        mask: ItemMask | None = None,
        removed: int = 0,
        probes: Probes | None = None,
    ) -> np.ndarray:
        """Return rows among which the best `fetch` allowed ones are, int64 [n, m] in any order; -1 for none.

        Parameters
        ----------
        queries
            float32 [n, d].
        fetch
            Number of items wanted that are allowed and not removed.
        mask
            The allowed ones of all items of the catalogue; None: all.
        removed
            How many rows are no longer in the catalogue. The engine may return them, and the caller drops them, so it
            returns further ones as well.
        probes
            What its own `plan` chose for these queries.

        Raises ValueError where it cannot apply the mask, and Unavailable where it is remote and does not answer.
        """
        raise NotImplementedError  # pragma: no cover

    def search(
        self, queries: np.ndarray, fetch: int, mask: ItemMask | None = None, probes: Probes | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best candidates by exact score, then by row.

        Scores, float32 [n, fetch], and rows, int64 [n, fetch], best first; padded with -inf and -1. A score is q.x, for
        cosine with x normalised, and for l2 q.x - x.x / 2.
        """
        named = self.candidates(queries, fetch, mask, probes=probes)
        step = max(1, _BLOCK_ROWS // named.shape[1])
        best = np.full((len(queries), fetch), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), fetch), -1, dtype=np.int64)
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            candidates = np.sort(named[block], axis=1)
            score = scores(self.vectors, queries[block], candidates, self.metric)
            order = (-score).argsort(axis=1, kind="stable")[:, :fetch]  # stable, and the candidates ascend
            line = np.arange(len(order))[:, None]
            best[block, : order.shape[1]], rows[block, : order.shape[1]] = score[line, order], candidates[line, order]
        return best, rows

    def reads(self, fetch: float) -> float:
        """Estimate how many items a search compares per query."""
        raise NotImplementedError  # pragma: no cover

    def takes(self, mask: ItemMask) -> bool:
        """Return whether the engine can apply the mask."""
        return False

    def plan(self, queries: np.ndarray, fetch: int, mask: ItemMask | None, most: float) -> Plan | None:
        """Return the plan for asking it; None if it cannot apply the mask, or costs more than `most` ns per query.

        Raises InvalidRequest: it cannot express the filter, which allows too many items to compare.
        """
        if mask is not None and not self.takes(mask):
            if mask.count > costs.MOST_COMPARED:
                raise InvalidRequest(
                    f"column 'filter': {self.kind} cannot express it, and it allows {mask.count} items, more than "
                    f"the {costs.MOST_COMPARED} that are compared in its place; narrow it"
                )
            return None
        cost = costs.CALL_NS + costs.INDEX_NS * self.reads(fetch)
        return Plan("index", None, len(queries) * cost) if self.is_remote or cost < most else None

    def planning(self, mask: ItemMask) -> float:
        """Return the cost of making a plan with a mask, in nanoseconds."""
        return 0.0

    def about(self, fetch: int, share: float) -> float:
        """Return the maximum cost of a query for a share of the items, in ns; inf: it may not apply the mask."""
        return math.inf

    def extended(self, items: int, chain: str | None) -> Engine:
        """Return the engine of a catalogue that has grown to `items` rows, by changes whose first one is `chain`."""
        return self

    def with_removed(self, fetch: int, removed: int) -> int:
        """Return how many candidates to ask for so that usually `fetch` are left without the removed ones.

        If too few are left, the search compares all items.
        """
        return fetch + min(removed, _SPARE + 4 * fetch * removed // max(1, self.items))
