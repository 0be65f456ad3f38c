"""Search with a filter per row: allowed items, at most so many of one kind, and a minimum score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..files.arrays import take_ranges
from .budget import Budget
from .filters import Crowding, Filter
from .masks import Allowed, ItemMask
from .search import Found, ItemSearch, in_order

_LEAST_FETCH = 64
_ROUNDS = 3
"""As often are more items fetched for a row, about, until it is full or nothing is left."""
_MASK_NS, _WALK_NS = 5.0, 300.0
"""Nanoseconds per item of the catalogue to leave out what is full, and per item that is looked at."""
_Array = np.ndarray


def search_filtered(
    search: ItemSearch,
    queries: _Array,
    k: _Array,
    rows: _Array,
    items: _Array,
    filters: Sequence[Filter | None],
    budget: Budget | None = None,
) -> Found:
    """Search as `search` does, with a filter (or None) per row.

    Raises TooMuch: removing crowded items would exceed the `budget`; nothing was searched.
    """
    rows, items = in_order(rows, items)
    crowded = [
        (row, of_row) for row, of_row in enumerate(filters) if of_row is not None and of_row.crowding is not None
    ]
    if budget is not None:
        for row, of_row in crowded:
            budget.spend(row, _crowding_cost(search, int(k[row]), of_row.mask))
    best = search.nearest(queries, k, rows, items, _allowed(filters), budget)
    for row, of_row in crowded:
        assert of_row.crowding is not None
        excluded = items[slice(*rows.searchsorted([row, row + 1]))]
        uncrowded = Uncrowded(search, queries[row : row + 1], excluded, of_row.mask, of_row.crowding)
        known = best.item_index[row, : best.count[row]], best.score[row, : best.count[row]]
        _replace(best, row, *uncrowded.best(int(k[row]), *known))
    for row, row_filter in enumerate(filters):
        if row_filter is not None and row_filter.min_score is not None:
            passing = int(np.count_nonzero(best.score[row, : best.count[row]] >= row_filter.min_score))
            _replace(best, row, best.item_index[row, :passing].copy(), best.score[row, :passing].copy())
    return best


def _crowding_cost(search: ItemSearch, k: int, mask: ItemMask | None) -> float:
    """Estimate the cost of filling a row with items that are not crowded out, in nanoseconds."""
    share = 1.0 if mask is None else mask.share
    fetch = 2 * max(k, _LEAST_FETCH)
    return _ROUNDS * (search.cost(fetch, share / 2) + _MASK_NS * len(search.vectors) + _WALK_NS * fetch)


class Uncrowded:
    """One row's best items, at most `limit` of each value of an attribute.

    Items are taken in order of their scores; one is skipped if a value of it was taken `limit` times already. An item
    with several values counts for each of them; an item without a value is never skipped.
    """

    def __init__(
        self, search: ItemSearch, query: _Array, excluded: _Array, mask: ItemMask | None, crowding: Crowding
    ) -> None:
        """Take the query, float32 [1, d], the excluded items, int64 [m], and the allowed ones."""
        self._search, self._query, self._excluded = search, query, excluded
        self._attribute, self._limit = crowding
        self._bits = np.ones(len(search.vectors), dtype=bool) if mask is None else mask.bits.copy()
        self._taken: Counter[int] = Counter()
        self._full: set[int] = set()
        self._items: list[_Array] = [np.zeros(0, dtype=np.int64)]
        self._scores: list[_Array] = [np.zeros(0, dtype=np.float32)]

    def best(self, k: int, item_index: _Array, score: _Array) -> tuple[_Array, _Array]:
        """Return up to `k` items and scores, best first, given the best ones without a limit."""
        fetch, missing = k, k - self._walk(item_index, score, k)
        while missing and len(item_index) == fetch:
            # Those that follow, without the values that are full; twice as many each time, so a few times only.
            fetch = max(2 * fetch, _LEAST_FETCH)
            allowed = Allowed([self._search.mask(self._bits)], np.zeros(1, dtype=np.int64))
            rows = np.zeros(len(self._excluded), dtype=np.int64)
            fetch = min(fetch, len(self._bits))
            more = self._search.nearest(self._query, np.array([fetch]), rows, self._excluded, allowed)
            item_index, score = more.item_index[0, : more.count[0]], more.score[0, : more.count[0]]
            missing -= self._walk(item_index, score, missing)
        return np.concatenate(self._items), np.concatenate(self._scores)

    def _walk(self, item_index: _Array, score: _Array, most: int) -> int:
        """Take up to `most` items that are not crowded out, best first; return how many were taken."""
        groups, known = self._attribute.groups, set(self._full)
        positions, bounds = take_ranges(groups.rows, item_index)
        picked = self._picked(groups.codes[positions].tolist(), bounds.tolist(), most)
        self._items.append(item_index[picked])
        self._scores.append(score[picked])
        if len(picked) < most:
            self._bits[item_index] = False
            for code in self._full - known:
                self._bits[self._attribute.members(code)] = False
        return len(picked)

    def _picked(self, codes: list[int], bounds: list[int], most: int) -> list[int]:
        """Return the places of the items to take; the values of item i are `codes[bounds[i]:bounds[i + 1]]`."""
        picked: list[int] = []
        counts, full, limit = self._taken, self._full, self._limit
        for place, (start, end) in enumerate(pairwise(bounds)):
            own = codes[start:end]
            if not full.isdisjoint(own):
                continue
            for code in own:
                counts[code] += 1
                if counts[code] >= limit:
                    full.add(code)
            picked.append(place)
            if len(picked) == most:
                break
        return picked


def _allowed(filters: Sequence[Filter | None]) -> Allowed | None:
    """Return the rows' masks, each distinct one once; None if no row has one."""
    masks: dict[int, tuple[int, ItemMask]] = {}
    of_row = np.full(len(filters), -1, dtype=np.int64)
    for row, row_filter in enumerate(filters):
        if row_filter is not None and row_filter.mask is not None:
            of_row[row] = masks.setdefault(id(row_filter.mask), (len(masks), row_filter.mask))[0]
    return Allowed([mask for _, mask in masks.values()], of_row) if masks else None


def _replace(answers: Found, row: int, item_index: _Array, score: _Array) -> None:
    answers.item_index[row], answers.score[row] = -1, -np.inf
    answers.item_index[row, : len(item_index)], answers.score[row, : len(score)] = item_index, score
    answers.count[row] = len(item_index)
