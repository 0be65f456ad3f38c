"""Ranking metrics by exact search: where each query's true item stands among all items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

KS = (1, 5, 10, 50, 100)
_SCORES_AT_ONCE = 1 << 22
"""How many scores are held at a time: 16 MB of float32, whatever the number of rows (of one row at least)."""


@dataclass(frozen=True)
class SeenItems:
    """Which items each user already had, as compressed sparse rows.

    Attributes
    ----------
    offsets: int64 `[users + 1]`
    items: int64 `[interactions]`, item indices, unique within a user
    """

    offsets: Int64Array
    items: Int64Array

    @classmethod
    def of(cls, users: Int64Array, items: Int64Array, num_users: int) -> SeenItems:
        """Collect the distinct `(user, item)` pairs of interactions; both arrays are int64 `[n]`, 0-based."""
        width = int(items.max(initial=0)) + 1
        pairs = np.unique(users * width + items)
        offsets = np.searchsorted(pairs // width, np.arange(num_users + 1))
        return cls(offsets.astype(np.int64), pairs % width)

    def pairs(self, users: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return `(row, item)` for every seen item of each row's user, to index a `[rows, items]` array."""
        starts, counts = self.offsets[users], np.diff(self.offsets)[users]
        rows = np.repeat(np.arange(len(users)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self.items[np.repeat(starts, counts) + within]


@dataclass(frozen=True)
class Ranking:
    """Where the targets stand, and what the queries were answered.

    Attributes
    ----------
    ranks: int64 `[rows]`, 0-based; the number of items if the target may not be answered (it was seen before, or its
        score is not finite)
    users: int64 `[rows]`
    shown: bool `[len(KS), items]`, whether any query's first k answers hold the item; False where nobody asked
    """

    ranks: Int64Array
    users: Int64Array
    shown: npt.NDArray[np.bool_]

    def metrics(self) -> dict[str, float]:
        """Return recall, hit rate, ndcg and coverage at every k, and the mean reciprocal rank.

        `recall@k`: share of rows whose target is among the first k. `hit_rate@k`: share of users with at least one
        such row. `ndcg@k`: mean of 1 / log2(rank + 2), 0 past k (one relevant item a row). `coverage@k`: share of the
        catalogue that some query is shown. `mrr`: mean of 1 / (rank + 1).
        """
        num_items = self.shown.shape[1]
        reachable = self.ranks < num_items
        found: dict[str, float] = {"mrr": float(np.mean(reachable / (self.ranks + 1.0)))}
        for k, shown in zip(KS, self.shown, strict=True):
            hits = self.ranks < min(k, num_items)
            found[f"recall@{k}"] = float(hits.mean())
            found[f"hit_rate@{k}"] = len(np.unique(self.users[hits])) / len(np.unique(self.users))
            found[f"ndcg@{k}"] = float(self.row_values(f"ndcg@{k}").mean())
            found[f"coverage@{k}"] = float(shown.mean())
        return found

    def row_values(self, name: str) -> npt.NDArray[np.float64]:
        """Return what each row adds to the mean that is `recall@k` or `ndcg@k`, float64 `[rows]`."""
        kind, k = name.split("@")
        hits = self.ranks < min(int(k), self.shown.shape[1])
        return hits / np.log2(self.ranks + 2.0) if kind == "ndcg" else hits.astype(np.float64)


def rank_targets(
    score: Callable[[slice], Float32Array],
    targets: Int64Array,
    users: Int64Array,
    seen: SeenItems,
    num_items: int,
    coverage: bool = True,
) -> dict[str, Ranking]:
    """Rank every row's target among all items (`all`) and among those its user has not seen (`unseen`).

    Items of equal score stand in the order of their index, as the served search has them. A target whose score is not
    finite is not found, whatever the others' are; and an item whose score is NaN stands before every target.

    Parameters
    ----------
    score
        Scores of a slice of the rows against the whole catalogue, float32 `[len(slice), items]`.
    targets, users
        int64 `[rows]`: the item that was chosen, and who chose it (a row of `seen`).
    coverage
        Look for each query's first items, too, which takes most of the time.
    """
    return _rank(score, np.arange(len(targets)), targets, users, seen, num_items, coverage)


def rank_users(
    score: Callable[[Int64Array], Float32Array],
    targets: Int64Array,
    users: Int64Array,
    seen: SeenItems,
    num_items: int,
) -> dict[str, Ranking]:
    """Do what `rank_targets` does where all rows of a user get the same answer, which is then looked for once.

    `score` gets distinct users, int64 `[n]`, and returns float32 `[n, items]`.
    """
    distinct, query = np.unique(users, return_inverse=True)
    return _rank(lambda queries: score(distinct[queries]), query, targets, users, seen, num_items, coverage=True)


def _rank(
    score: Callable[[slice], Float32Array],
    query: Int64Array,
    targets: Int64Array,
    users: Int64Array,
    seen: SeenItems,
    num_items: int,
    coverage: bool,
) -> dict[str, Ranking]:
    """Rank each row's target in the scores of its query; rows of one query have one user."""
    step = max(1, _SCORES_AT_ONCE // max(num_items, 1))
    order = np.argsort(query, kind="stable")
    first = np.searchsorted(query[order], np.arange(int(query.max(initial=-1)) + 2))
    ranks = {name: np.empty(len(targets), np.int64) for name in ("all", "unseen")}
    shown = {name: np.zeros((len(KS), num_items), bool) for name in ranks}
    for start in range(0, len(first) - 1, step):
        queries = slice(start, min(start + step, len(first) - 1))
        rows, askers = order[first[start] : first[queries.stop]], users[order[first[queries]]]
        scores = np.array(score(queries), dtype=np.float32)
        scores[np.isnan(scores)] = np.inf  # which no comparison finds, neither before nor behind a target
        for name, found in ranks.items():
            if name == "unseen":
                scores[seen.pairs(askers)] = -np.inf
            for some in np.array_split(rows, max(1, -(-len(rows) // step))):
                found[some] = _ranks(scores, query[some] - start, targets[some])
            if coverage:
                _mark_shown(scores, shown[name])
    return {name: Ranking(found, users, shown[name]) for name, found in ranks.items()}


def _ranks(scores: Float32Array, query: Int64Array, targets: Int64Array) -> Int64Array:
    if len(targets) > 4 * len(scores):  # many rows of few queries, which are cheaper sorted than compared row by row
        return _ranks_by_sorting(scores, query, targets)
    if not np.array_equal(query, np.arange(len(scores))):
        scores = scores[query]
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    ranks = np.count_nonzero(scores > own, axis=1)
    tied = np.flatnonzero(np.count_nonzero(scores >= own, axis=1) > ranks + 1)  # few rows, most often
    earlier = np.arange(scores.shape[1]) < targets[tied, None]
    ranks[tied] += np.count_nonzero((scores[tied] == own[tied]) & earlier, axis=1)
    return np.where(np.isfinite(own[:, 0]), ranks, scores.shape[1]).astype(np.int64)


def _ranks_by_sorting(scores: Float32Array, query: Int64Array, targets: Int64Array) -> Int64Array:
    places = np.empty(scores.shape, np.int64)
    np.put_along_axis(places, np.argsort(-scores, axis=1, kind="stable"), np.arange(scores.shape[1])[None], axis=1)
    return np.where(np.isfinite(scores[query, targets]), places[query, targets], scores.shape[1]).astype(np.int64)


def _mark_shown(scores: Float32Array, shown: npt.NDArray[np.bool_]) -> None:
    top, best = top_items(scores, min(max(KS), scores.shape[1]))
    answered = np.isfinite(best)
    for mark, k in zip(shown, KS, strict=True):
        mark[top[:, :k][answered[:, :k]]] = True


def answerable(scores: Float32Array) -> Float32Array:
    """Return a copy of scores in which -inf, of what is never answered, stands for all that is not finite."""
    return np.where(np.isfinite(scores), scores, np.float32(-np.inf))


def top_items(scores: Float32Array, k: int) -> tuple[Int64Array, Float32Array]:
    """Return the k best items of each row, best first, equal scores in the order of their index; and their scores.

    Where a row has fewer than k scores above -inf, the last are -inf. No score is NaN: see `answerable`.
    """
    rows, items = scores.shape
    chosen = scores >= _bound(scores, k)
    for row in np.flatnonzero(np.count_nonzero(chosen, axis=1) > 4 * k):  # mostly equal scores
        best_of_row = np.argsort(-scores[row], kind="stable")[:k]
        chosen[row] = False
        chosen[row, best_of_row] = True
    flat = np.flatnonzero(chosen)
    row, item = np.divmod(flat, items)
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
    candidates = np.zeros((rows, max(k, int(counts.max(initial=0)))), np.int64)
    values = np.full(candidates.shape, -np.inf, np.float32)
    candidates[row, place], values[row, place] = item, scores.ravel()[flat]
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(values, order, axis=1)


def _bound(scores: Float32Array, k: int) -> Float32Array:
    """A score that at least k items of each row reach (if so many are above -inf), and few more; `[rows, 1]`.

    It is the k-th best among the best of some 2k groups of items: several times faster than the k-th best of all.
    """
    groups = min(scores.shape[1], 2 * k)
    best = scores[:, :groups].copy()
    for start in range(groups, scores.shape[1] - groups + 1, groups):
        np.maximum(best, scores[:, start : start + groups], out=best)
    bound = np.partition(best, groups - k, axis=1)[:, groups - k, None]
    return np.maximum(bound, np.finfo(np.float32).min)
