"""Search for the nearest items, without excluded ones, in an order that only the exact scores decide.

Every way (`planner`) ends with the scores of its candidates, summed in an order that does not depend on the batch (BLAS
and FAISS choose their kernels by batch size), and ties broken by item index. So a search that compares all allowed
items gives a row the same answer in any batch. One through the approximate index may miss an item, but never returns
one out of place, too few, or one that is not allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import numpy as np

from ..files.arrays import take_ranges
from ..index import costs
from ..index.engine import Engine, Plan
from .budget import Budget
from .masks import Allowed, ItemMask
from .planner import Planner
from .scoring import Scoring
from .selection import leaders, ranked, taken

SPARE = 16
_BLOCK_FLOATS = 1 << 23
_FEW = 64
"""So many removed items are left out of what is compared; more are a filter."""
_LEVELS = 64
"""More than the powers of two by which rows may differ in how much they leave out."""
_Array = np.ndarray


class Found(NamedTuple):
    """The best items of every row, best first; past `count` the index is -1 and the score -inf."""

    item_index: np.ndarray
    """int64 [n, width], width = the largest k."""
    score: np.ndarray
    """float32 [n, width]: q.x, the cosine, or for l2 -|q - x|^2."""
    count: np.ndarray  # type: ignore[assignment]  # the wire's word; `tuple.count` is not missed
    """int32 [n]: min(k, items that are allowed and not excluded)."""


class _Group(NamedTuple):
    """Rows that share a mask, with their excluded items in order of `rows`."""

    queries: _Array
    rows: _Array
    items: _Array
    mask: ItemMask | None


class _Part(NamedTuple):
    """Rows that are searched together, and the way."""

    members: _Array | None
    """int64 [n]: which rows; None: all."""
    group: _Group
    fetch: int
    """Candidates of each row."""
    plan: Plan


class ItemSearch:
    """Search among item vectors; see `Found`."""

    def __init__(
        self,
        vectors: _Array,
        index: Engine | None = None,
        *,
        metric: str = "inner_product",
        live: _Array | None = None,
    ) -> None:
        """Take the item vectors, float32 [items, d].

        `index` holds the first `index.items` of them; the others are always compared, and all of them without an index.
        Items that are not `live`, bool [items], are never returned.

        Raises ValueError: the metric is unknown.
        """
        self._index = index
        self._take(Scoring(vectors, metric), live)

    def extended(self, vectors: _Array, live: _Array, chain: str | None = None) -> ItemSearch:
        """Return the search over `vectors`, which begin with those of this one, at the cost of the new ones.

        `chain`: the id of the catalogue's first change, by which an engine identifies its rows.
        """
        grown = copy(self)
        grown._index = None if self._index is None else self._index.extended(len(vectors), chain)
        grown._take(self._scoring.extended(vectors), live)
        return grown

    def _take(self, scoring: Scoring, live: _Array | None) -> None:
        self._scoring, self.vectors, self._planner = scoring, scoring.vectors, Planner(scoring.vectors, self._index)
        items = len(scoring.vectors)
        self._candidate_ns = costs.RANKED_NS + costs.EXACT_NS * scoring.vectors.shape[1]
        """To rank one by its exact score."""
        self._tail = np.arange(items if self._index is None else self._index.items, items)
        self._live = None if live is None or live.all() else ItemMask(live.copy())
        self._dead = np.zeros(0, dtype=np.int64) if self._live is None else np.flatnonzero(~self._live.bits)

    def mask(self, bits: _Array) -> ItemMask:
        """Return the mask of the allowed items, bool [items], for a search's `allowed`."""
        return ItemMask(bits if self._live is None else bits & self._live.bits)

    def plan(self, queries: _Array, k: int, mask: ItemMask | None = None) -> Plan:
        """Return the plan for `queries`, float32 [n, d], of `k` items each, with one mask."""
        fetch, mask = min(k, len(self.vectors)) + SPARE, mask or self._live
        return self._planner.plan(self._scoring.prepared(queries), fetch, None if self._is_sifted(mask) else mask)

    def nearest(
        self,
        queries: _Array,
        k: _Array,
        rows: _Array,
        items: _Array,
        allowed: Allowed | None = None,
        budget: Budget | None = None,
    ) -> Found:
        """Return the best `k`, int64 [n], items of every query, float32 [n, d].

        Item `items[i]` is excluded from the answer to row `rows[i]`, int64 [m] each; duplicates are allowed. `allowed`:
        the masks of the rows; None: every item is allowed.

        Raises TooMuch: the search would exceed the budget. All of it is planned before any is done.
        """
        queries, widest = self._scoring.prepared(queries), max(k.tolist())
        width = min(widest, len(self.vectors))
        if len(queries) > 1:
            rows, items = in_order(rows, items)
        whole = _Group(queries, rows, items, self._live)
        keys = self._keys(width, whole, allowed)
        if keys is None:  # by far the most frequent
            index, score = self._answer(width, self._part(width, None, whole, budget))
        else:
            parts = [self._part(width, members, group, budget) for members, group in self._groups(keys, whole, allowed)]
            index = np.full((len(queries), width), -1, dtype=np.int64)
            score = np.full((len(queries), width), -np.inf, dtype=np.float32)
            for part in parts:
                index[part.members], score[part.members] = self._answer(width, part)
        return _cut(_widened(index, widest, -1), _widened(score, widest, -np.inf), k)

    def cost(self, k: int, share: float) -> float:
        """Estimate the cost of finding `k` items if a filter allows that share of them, in nanoseconds."""
        return self._planner.about(k + SPARE, share) + (k + SPARE) * self._candidate_ns

    def _keys(self, width: int, whole: _Group, allowed: Allowed | None) -> _Array | None:
        """Return a number per row, equal for rows that are searched together; None: all of them are.

        Such rows share a mask and exclude about as many items: a long history makes the index look further, which the
        others of the batch should not pay for.
        """
        uneven = self._index is not None and len(whole.rows) > width
        if allowed is None and not uneven:
            return None
        keys = np.zeros(len(whole.queries), dtype=np.int64) if allowed is None else (allowed.of_row + 1) * _LEVELS
        if uneven:
            counts = np.bincount(whole.rows, minlength=len(keys))
            keys = keys + np.ceil(np.log2(np.maximum(counts / (width + SPARE), 1))).astype(np.int64)
        return keys

    def _groups(self, keys: _Array, whole: _Group, allowed: Allowed | None) -> Iterator[tuple[_Array, _Group]]:
        """Yield the rows that are searched together, int64 [n], and their group, by the result of `_keys`."""
        for key in np.unique(keys):
            mask = whole.mask if allowed is None or key < _LEVELS else allowed.masks[key // _LEVELS - 1]
            if mask is not None and mask.count == len(self.vectors) - len(self._dead):
                mask = self._live  # it leaves nothing out
            members = np.flatnonzero(keys == key)
            yield members, _taken(members, whole._replace(mask=mask))

    def _part(self, width: int, members: _Array | None, group: _Group, budget: Budget | None) -> _Part:
        """Plan the search of a group, paid for from the budget."""
        fetch = width + SPARE
        if self._index is not None and len(group.rows):
            fetch += int(np.bincount(group.rows).max())
        mask = None if self._is_sifted(group.mask) else group.mask
        row = len(group.queries) - 1 if members is None else int(members[-1])
        if budget is not None and mask is not None and self._index is not None:
            budget.spend(row, self._index.planning(mask))
        plan = self._planner.plan(group.queries, fetch, mask)
        if budget is not None:
            budget.spend(row, plan.cost + self._picking(plan, fetch, group))
        return _Part(members, group, fetch, plan)

    def _picking(self, plan: Plan, fetch: int, group: _Group) -> float:
        """Return the cost of selecting and ranking the candidates of a plan, in nanoseconds."""
        queries = len(group.queries)
        ranking = queries * fetch * self._candidate_ns
        if plan.way == "index":
            return ranking + len(group.rows) * costs.EXCLUDED_NS
        compared = len(self.vectors) if plan.way == "scan" or group.mask is None else group.mask.count
        return ranking + queries * compared * costs.ORDER_NS

    def _answer(self, width: int, part: _Part) -> tuple[_Array, _Array]:
        """Return the `width` best of every row of a group [n, width], block by block."""
        _, group, fetch, plan = part
        compared = {"scan": len(self.vectors), "gather": group.mask.count if group.mask else 0}.get(plan.way, fetch)
        step = max(1, _BLOCK_FLOATS // max(compared, fetch * self.vectors.shape[1]))
        if len(group.queries) <= step:
            return self._block(width, fetch, plan, group)
        blocks = []
        for start in range(0, len(group.queries), step):
            members = np.arange(start, min(start + step, len(group.queries)))
            blocks.append(self._block(width, fetch, plan.of(slice(start, start + step)), _taken(members, group)))
        index, score = map(np.concatenate, zip(*blocks, strict=True))
        return index, score

    def _block(self, width: int, fetch: int, plan: Plan, group: _Group) -> tuple[_Array, _Array]:
        if plan.way == "index":
            return self._by_index(width, fetch, plan, group)
        return self._by_comparing(width, group.mask.items if plan.way == "gather" and group.mask else None, group)

    def _by_comparing(self, width: int, subset: _Array | None, group: _Group) -> tuple[_Array, _Array]:
        """Compare the items of `subset` (None: all) that the group's mask allows."""
        scores = self._quick(subset, group)
        index, score, bound = self._best(width, subset, scores, group.queries)
        if bound is None:
            return index, score
        # An item that is no candidate might deserve the last place, by rounding or by a tie. A last place of -inf
        # means that every item which is not excluded is a candidate already.
        slack, last = self._scoring.slack(group.queries), self._scoring.as_quick(score[:, -1], group.queries)
        if len(last) == 1 and bound[0] + slack[0] < last[0]:  # the usual, without the arrays
            return index, score
        for row in np.flatnonzero((bound + slack >= last) & (last > -np.inf)):
            index[row], score[row] = self._settle(width, subset, _taken(row[None], group), last[row] - slack[row])
        return index, score

    def _quick(self, subset: _Array | None, group: _Group) -> _Array:
        """Return the quick scores [n, len(subset)], -inf where an item is left out."""
        scores = self._scoring.quick(group.queries, subset)
        if subset is None:
            if group.mask is not None:
                scores[:, self._dead if group.mask is self._live else ~group.mask.bits] = -np.inf
            if len(group.rows):
                scores[group.rows, group.items] = -np.inf
        elif len(group.rows) and len(subset):
            position = np.minimum(subset.searchsorted(group.items), len(subset) - 1)
            inside = subset[position] == group.items
            scores[group.rows[inside], position[inside]] = -np.inf
        return scores

    def _best(
        self, width: int, subset: _Array | None, scores: _Array, queries: _Array
    ) -> tuple[_Array, _Array, _Array | None]:
        """Return the best [n, width] by exact score of those with the best quick scores, and a bound of the others."""
        total, fetch = scores.shape[1], width + SPARE
        excluded: _Array | None
        bound = None
        if fetch >= total:
            candidates, excluded = np.arange(total)[None, :].repeat(len(scores), axis=0), scores == -np.inf
        else:
            candidates, excluded, bound = leaders(scores, fetch)
        index, score = self._rank(width, queries, candidates if subset is None else subset[candidates], excluded)
        return index, score, bound

    def _settle(self, width: int, subset: _Array | None, group: _Group, least: float) -> tuple[_Array, _Array]:
        """Return one row's answer, from every item with a quick score of at least `least`."""
        scores = self._quick(subset, group)[0]
        close = np.flatnonzero(scores >= least)
        if len(close) < width:  # rounding beyond the bound, which is one of probability
            close = np.flatnonzero(scores > -np.inf)
        candidates = (close if subset is None else subset[close])[None, :]
        index, score = self._rank(width, group.queries, candidates, None)
        return index[0], score[0]

    def _by_index(self, width: int, fetch: int, plan: Plan, group: _Group) -> tuple[_Array, _Array]:
        """Ask the index, and compare the items that it does not hold."""
        assert self._index is not None
        mask = None if self._is_sifted(group.mask) else group.mask
        candidates = self._index.candidates(group.queries, fetch, mask, len(self._dead), plan.probes)
        if len(self._tail):
            tail = self._tail if group.mask is None else self._tail[group.mask.holds(self._tail)]
            nearest, _, _ = self._best(min(fetch, len(tail)), tail, self._quick(tail, group), group.queries)
            candidates = np.concatenate([candidates, nearest], axis=1)
        candidates.sort(axis=1)
        excluded = candidates < 0
        if group.mask is not None:
            excluded |= ~group.mask.holds(candidates)
        if len(group.rows):
            total = len(self.vectors)
            line = np.arange(len(group.queries))[:, None] * total
            excluded |= np.isin(candidates + line, group.rows * total + group.items)
        index, score = self._rank(width, group.queries, candidates, excluded)
        # Where the index came back with too few, all allowed items are compared: `count` must be right.
        short = np.flatnonzero(np.isneginf(score[:, -1]))
        if len(short):
            index[short], score[short] = self._all_compared(width, _taken(short, group))
        return index, score

    def _all_compared(self, width: int, group: _Group) -> tuple[_Array, _Array]:
        """Return the `width` best of every row of a group [n, width] among all allowed items, block by block."""
        plan = Plan("scan" if group.mask is None else "gather")
        return self._answer(width, _Part(None, group, width + SPARE, plan))

    def _is_sifted(self, mask: ItemMask | None) -> bool:
        """Return whether only a few removed items are excluded."""
        few = _FEW if self._index is None else self._index.most_removed
        return mask is not None and mask is self._live and len(self._dead) <= few

    def _rank(self, width: int, queries: _Array, candidates: _Array, excluded: _Array | None) -> tuple[_Array, _Array]:
        """Return the `width` best candidates [n, width] and their scores, by score, then by item index."""
        scores = self._scoring.exact(queries, candidates)
        if excluded is not None:
            scores[excluded] = -np.inf
        order, score = ranked(scores, width)  # the candidates ascend, so the first of equals is the one wanted
        index = taken(candidates, order)
        return _widened(index, width, -1), _widened(score, width, -np.inf)


def no_exclusions() -> tuple[np.ndarray, np.ndarray]:
    """Return the `rows` and `items` of a search without exclusions."""
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


def in_order(rows: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both, int64 [m], with ascending rows."""
    if not len(rows) or not (rows[1:] < rows[:-1]).any():
        return rows, items
    order = rows.argsort(kind="stable")
    return rows[order], items[order]


def _taken(members: _Array, group: _Group) -> _Group:
    """Return some rows of a group, int64 ascending, renumbered, at the cost of their own entries."""
    if not len(group.rows):
        return group._replace(queries=group.queries[members])
    bounds = group.rows.searchsorted(np.arange(len(group.queries) + 1))
    positions, own = take_ranges(bounds, members)
    rows = np.repeat(np.arange(len(members)), own[1:] - own[:-1])
    return _Group(group.queries[members], rows, group.items[positions], group.mask)


def _widened(array: _Array, width: int, blank: float) -> _Array:
    if array.shape[1] == width:
        return array
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=blank)


def _cut(index: _Array, score: _Array, k: _Array) -> Found:
    """Clear the places past each row's k, and those of excluded items."""
    width = score.shape[1]
    least = min(k.tolist())
    if least == width and min(score[:, -1].tolist()) > -np.inf:  # by far the most frequent
        return Found(index, score, np.full(len(score), width, dtype=np.int32))
    if least < width:
        score[np.arange(width)[None, :] >= k[:, None]] = -np.inf
    empty = score == -np.inf
    index[empty] = -1
    return Found(index, score, (width - empty.sum(axis=1)).astype(np.int32))
