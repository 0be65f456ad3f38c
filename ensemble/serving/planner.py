"""Which way to search, per request, by what each would cost and by whether it would find what it should.

Three ways, cheapest first wins:
- *scan*: compare every item; exact. `items x d` products.
- *gather*: compare every allowed item; exact. The same for the allowed ones alone, and each vector fetched on its own.
- *index*: ask the approximate index, which skips items that are not allowed and looks further the rarer they are.

An approximate index finds the best allowed items only if it looks where they are. How far that is depends on how rare
they are *near the query*: of a filter for one category, the lists that the query points to may hold none at all. So the
planner counts the allowed items in the lists that an unfiltered search would visit, and has the index look as deep as
their share there says (an answer at rank k among the allowed stands at rank k / share among all). Where that costs more
than comparing all allowed items, those are compared.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from .index import ItemIndex
from .masks import ItemMask

# Nanoseconds, one thread of a 2 GHz server core with AVX-512; that they fit each other matters, not what they are.
SCAN_NS = 0.37
"""Per float of an item: read and multiply, one after the other."""
GATHER_NS = 0.9
"""Per float of an item that is fetched by its number."""
MORE_NS = 0.1
"""Per float, for every further query that is compared with the same items."""
INDEX_NS = 20.0
"""Per item that the index compares (8-bit codes), its share of everything else included."""
CALL_NS = 60_000.0
"""Per query that the index is asked: the nearest lists, the exact scores of its candidates."""
MARGIN = 2.0
"""How much deeper than its estimate a filtered search looks: lists are not where the filter's items are by chance."""
_SMALL = 20_000
"""Catalogues up to this size are compared as a whole, whatever the filter allows: it takes microseconds."""


class Plan(NamedTuple):
    """How a group of rows with one filter is searched."""

    way: str
    """`scan`, `gather` or `index`."""
    depth: float | None = None
    """For `index`: the rank among all items down to which it should look."""


class Planner:
    """Chooses the way for a catalogue and its index."""

    def __init__(self, items: int, dim: int, index: ItemIndex | None) -> None:
        self._items, self._dim, self._index = items, dim, index
        self._list_of: np.ndarray | None = None
        self._lists: np.ndarray | None = None
        self._counts: WeakKeyDictionary[ItemMask, np.ndarray] = WeakKeyDictionary()

    def extended(self, items: int) -> Planner:
        """Return the planner of a catalogue that grew to `items`, with what is known of the index."""
        made = Planner(items, self._dim, self._index)
        made._list_of, made._lists = self._list_of, self._lists
        return made

    def __call__(self, queries: np.ndarray, fetch: int, mask: ItemMask | None) -> Plan:
        """Return the plan for queries, float32 [n, d], that want `fetch` of the items that `mask` allows."""
        if self._index is None and (mask is None or self._items <= _SMALL):
            return Plan("scan")
        costs = {"scan": self._dim * self._items * (SCAN_NS + (len(queries) - 1) * MORE_NS)}
        if mask is not None:
            costs["gather"] = self._dim * mask.count * (GATHER_NS + (len(queries) - 1) * MORE_NS)
        best = min(costs, key=lambda way: costs[way])
        if self._index is None or (mask is not None and mask.count <= 4 * fetch):
            return Plan(best)
        depth = float(fetch) if mask is None else fetch / max(mask.share, 1e-9)
        if self.index_cost(len(queries), depth) >= costs[best]:
            return Plan(best)
        if mask is not None:
            depth = self._local_depth(queries, fetch, mask)
        return Plan("index", depth) if self.index_cost(len(queries), depth) < costs[best] else Plan(best)

    def index_cost(self, queries: int, depth: float) -> float:
        """Return the nanoseconds of asking the index for `queries` queries down to rank `depth`."""
        assert self._index is not None
        return queries * (CALL_NS + INDEX_NS * self._index.reads(depth))

    def _local_depth(self, queries: np.ndarray, fetch: int, mask: ItemMask) -> float:
        """Return the rank among all items at which the last of `fetch` allowed ones stands; of the worst query."""
        assert self._index is not None
        counts = self._allowed_by_list(mask)
        if counts is None:  # no lists: as if a graph's neighbourhoods were all alike
            return MARGIN * fetch / max(mask.share, 1e-9)
        lists = self._index.nearest_lists(queries)
        assert self._lists is not None
        allowed, held = counts[lists].sum(axis=1), self._lists[lists].sum(axis=1)
        share = float((np.maximum(allowed, 0.5) / np.maximum(held, 1)).min())
        return MARGIN * fetch / share

    def _allowed_by_list(self, mask: ItemMask) -> np.ndarray | None:
        assert self._index is not None
        if self._list_of is None:
            self._list_of = self._index.list_of_item()
            if self._list_of is None:
                return None
            self._lists = np.bincount(self._list_of)
        counts = self._counts.get(mask)
        if counts is None:
            assert self._lists is not None
            allowed = self._list_of[mask.bits[: len(self._list_of)]]
            counts = self._counts[mask] = np.bincount(allowed, minlength=len(self._lists))
        return counts
