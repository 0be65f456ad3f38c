"""Which way to search, per request, by what each would cost and by whether it would find what it should.

Three ways, cheapest first wins:
- *scan*: compare every item; exact. `items x d` products.
- *gather*: compare every allowed item; exact. The same for the allowed ones alone, and each vector fetched on its own.
- *index*: ask the approximate index, which skips items that are not allowed and looks further the rarer they are.

An approximate index finds the best allowed items only if it looks where they are. An IVF that takes filters is told
which lists to read (`lists`); where that costs more than comparing all allowed items, those are compared. Other indexes
are asked for more than is wanted, as far as half of the items are allowed and more. An engine (`engines`) is asked with
a filter only if it can express it.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np

from ..errors import InvalidRequest
from ..index.engines import Engine, Index
from ..index.faiss_index import ItemIndex
from ..index.inverted_lists import Lists, Probes
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
LIST_NS = 150.0
"""Per list and query, to choose which to read."""
EXACT_NS = 2.0
"""Per float of a candidate whose exact score is computed."""
RANKED_NS = 60.0
"""Per candidate that is put in order."""
COUNT_NS = 20.0
"""Per item that a filter allows, to count those in every list, once."""
EXCLUDED_NS = 800.0
"""Per item that a row leaves out of what an index names: it is to name one more, and these are told apart."""
SHORT, ORDER_NS = 0.03, 10.0
"""Part of the rows for which an index names too few, measured at a million items: all items are compared then; and per
item, to find the best scores among them."""
MISSING = 0.1
"""Which part of the recall that the index may lack a filtered search plans to lose: the rest is for what the model of
the lists does not know."""
OFTEN = 0.5
"""An index that cannot be told where to look is asked only if this share of the items is allowed."""
MOST_COMPARED = 1 << 22
"""A filter that an engine cannot express is answered by comparing the items that it allows, up to so many of them."""
_SMALL = 20_000
"""Catalogues up to this size are compared as a whole, whatever the filter allows: it takes microseconds."""


class Plan(NamedTuple):
    """How a group of rows with one filter is searched."""

    way: str
    """`scan`, `gather` or `index`."""
    probes: Probes | None = None
    """For `index`: the lists to read, of these rows; None: the index knows."""
    cost: float = 0.0
    """What the rows take, in nanoseconds of one core."""

    def of(self, rows: slice) -> Plan:
        """Return the plan for some of the rows."""
        if self.probes is None:
            return self
        return self._replace(probes=Probes(self.probes.distances[rows], self.probes.lists[rows], self.probes.reads))


class Planner:
    """Chooses the way for a catalogue and its index."""

    def __init__(self, vectors: np.ndarray, index: Index | None) -> None:
        """Take the items' vectors, float32 [items, d]."""
        self._items, self._dim, self._index = len(vectors), vectors.shape[1], index
        self._lists: Lists | None = None
        if isinstance(index, ItemIndex) and index.chooses:
            of_item = index.list_of_item()
            self._lists = None if of_item is None else Lists(index, of_item, vectors)

    def extended(self, items: int, index: Index | None) -> Planner:
        """Return the planner of a catalogue that has grown to `items` items; the index has the same lists."""
        made = copy(self)
        made._items, made._index = items, index
        return made

    def __call__(self, queries: np.ndarray, fetch: int, mask: ItemMask | None) -> Plan:
        """Return the plan for queries, float32 [n, d], that want `fetch` of the items that `mask` allows.

        Raises InvalidRequest for a filter that an engine cannot express and that allows too many items to compare.
        """
        best = self._compared(len(queries), mask)
        if self._index is None or (mask is not None and mask.count <= 4 * fetch):
            return best
        most = best.cost / len(queries)
        if not isinstance(self._index, ItemIndex):
            return self._by_engine(self._index, len(queries), fetch, mask, most) or best
        return self._by_index(self._index, queries, fetch, mask, most) or best

    def about(self, fetch: int, share: float) -> float:
        """Return what one query takes, in nanoseconds, that wants `fetch` of the share of items that a filter allows.

        An estimate without looking where these items are, and no less than a plan's where they lie scattered.
        """
        compared = self._dim * self._items * min(SCAN_NS, GATHER_NS * share)
        if not isinstance(self._index, ItemIndex):
            return compared
        depth = fetch / max(share, 1e-9)
        return min(compared, CALL_NS + LIST_NS * self._index.lists + INDEX_NS * self._index.reads(depth))

    def choosing(self, mask: ItemMask) -> float:
        """Return what it takes to make a plan with a mask, in nanoseconds."""
        return 0.0 if self._lists is None else COUNT_NS * mask.count

    def _compared(self, queries: int, mask: ItemMask | None) -> Plan:
        """Return the plan that compares items, all or the allowed ones, whichever takes less."""
        scan = Plan("scan", None, self._dim * self._items * (SCAN_NS + (queries - 1) * MORE_NS))
        if mask is None or (self._index is None and self._items <= _SMALL):
            return scan
        gather = Plan("gather", None, self._dim * mask.count * (GATHER_NS + (queries - 1) * MORE_NS))
        return min(scan, gather, key=lambda plan: plan.cost)

    def _by_engine(self, engine: Engine, queries: int, fetch: int, mask: ItemMask | None, most: float) -> Plan | None:
        """Return the plan to ask an engine; None where it does not take the mask, or costs more than `most`."""
        if mask is not None and not engine.takes(mask):
            if mask.count > MOST_COMPARED:
                raise InvalidRequest(
                    f"column 'filter': {engine.kind} cannot express it, and it allows {mask.count} items, more than "
                    f"the {MOST_COMPARED} that are compared in its place; narrow it"
                )
            return None
        cost = CALL_NS + INDEX_NS * engine.reads(fetch)
        return Plan("index", None, queries * cost) if engine.is_remote or cost < most else None

    def _by_index(
        self, index: ItemIndex, queries: np.ndarray, fetch: int, mask: ItemMask | None, most: float
    ) -> Plan | None:
        """Return how to ask the index; None where that costs more than `most` nanoseconds per query."""
        if mask is None or self._lists is None:
            share = 1.0 if mask is None else mask.share
            cost = CALL_NS + INDEX_NS * index.reads(fetch / max(share, 1e-9))
            whole = cost + self._short()
            return Plan("index", None, len(queries) * whole) if share >= OFTEN and cost < most else None
        cost = CALL_NS + LIST_NS * index.lists
        if cost >= most:
            return None
        probes = self._lists.choose(queries, mask, fetch, MISSING * (1 - index.recall_target))
        cost += INDEX_NS * probes.reads
        return Plan("index", probes, len(queries) * (cost + self._short())) if cost < most else None

    def _short(self) -> float:
        """Return what it takes per query, in the mean, to compare all items where the index names too few."""
        return SHORT * self._items * (self._dim * (SCAN_NS + MORE_NS) / 2 + ORDER_NS)
