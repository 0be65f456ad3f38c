"""Chooses the way to search for each request, by cost and by whether it finds enough.

The cheapest of three ways is taken:
- *scan*: compare every item; exact. `items x d` products.
- *gather*: compare every allowed item; exact. Fewer products, but each vector is fetched on its own.
- *index*: ask the approximate index, which skips items that are not allowed and looks further the rarer they are.

An approximate index finds the best allowed items only if it looks where they are. An IVF that takes filters is told
which lists to read (`lists`); if that costs more than comparing all allowed items, those are compared. Other indexes
are asked for more items than wanted, as long as at least half of all items are allowed. An engine (`engines`) is asked
with a filter only if it can express it.
"""

from __future__ import annotations

import numpy as np

from ..index import costs
from ..index.engine import Engine, Plan
from .masks import ItemMask


class Planner:
    """Plans searches over a catalogue and its index."""

    def __init__(self, vectors: np.ndarray, index: Engine | None) -> None:
        """Take the items' vectors, float32 [items, d]."""
        self._items, self._dim, self._index = len(vectors), vectors.shape[1], index

    def plan(self, queries: np.ndarray, fetch: int, mask: ItemMask | None) -> Plan:
        """Return the plan for queries, float32 [n, d], of `fetch` items each among those that `mask` allows.

        Raises InvalidRequest: an engine cannot express the filter, which allows too many items to compare.
        """
        best = self._compared(len(queries), mask)
        if self._index is None or (mask is not None and mask.count <= 4 * fetch):
            return best
        return self._index.plan(queries, fetch, mask, best.cost / len(queries)) or best

    def about(self, fetch: int, share: float) -> float:
        """Return the cost of one query for `fetch` items, if a filter allows that share, in nanoseconds."""
        compared = self._dim * self._items * min(costs.SCAN_NS, costs.GATHER_NS * share)
        return compared if self._index is None else min(compared, self._index.about(fetch, share))

    def _compared(self, queries: int, mask: ItemMask | None) -> Plan:
        """Return the plan that compares items: all or the allowed ones, whichever is cheaper."""
        scan = Plan("scan", None, self._dim * self._items * (costs.SCAN_NS + (queries - 1) * costs.MORE_NS))
        if mask is None or (self._index is None and self._items <= costs.SMALL):
            return scan
        gather = Plan("gather", None, self._dim * mask.count * (costs.GATHER_NS + (queries - 1) * costs.MORE_NS))
        return min(scan, gather, key=lambda plan: plan.cost)
