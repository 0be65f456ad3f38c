"""Ranking metrics by exact search: where each query's true item stands among all items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workflows.progress import Progress, regularly, silent

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

KS = (1, 5, 10, 50, 100)
_SCORES_AT_ONCE = 1 << 22
"""How many scores are held at a time: 16 MB of float32, whatever the number of rows."""
_QUERIES_AT_ONCE = 32
"""But those of so many queries at least: the products of a few wait for the items' vectors, which no cache holds."""


@dataclass(frozen=True)
class SeenItems:
    """Which items each user already had, as compressed sparse rows.

    Attributes
    ----------
    offsets: int64 `[users + 1]`
    items: int64 `[interactions]`, item indices, unique and ascending within a user
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

    def of_user(self, user: int) -> Int64Array:
        """Return the items of one user, int64 `[n]`, ascending."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


class Products:
    """Inner products of queries and items, float32 `[queries, d]` and `[items, d]`, as scores of slices of the queries.

    Those of a slice lie in the memory of those before, which saves a third of the time where the items are many.
    """

    def __init__(self, queries: Float32Array, items: Float32Array) -> None:
        self._queries, self._items = queries, items
        self._scores = np.empty((0, len(items)), np.float32)

    def __call__(self, queries: slice) -> Float32Array:
        """Return the scores, float32 `[len(queries), items]`, until the next call."""
        some = self._queries[queries]
        if len(some) > len(self._scores):
            self._scores = np.empty((len(some), len(self._items)), np.float32)
        return np.matmul(some, self._items.T, out=self._scores[: len(some)])


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

    @classmethod
    def of_ranks(cls, ranks: Int64Array, users: Int64Array, num_items: int) -> Ranking:
        """Return a ranking whose coverage was not looked for."""
        return cls(ranks, users, np.zeros((len(KS), num_items), bool))

    def metrics(self) -> dict[str, float]:
        """Return recall, hit rate, ndcg and coverage at every k, and the mean reciprocal rank.

        `recall@k`: share of rows whose target is among the first k. `hit_rate@k`: share of users with at least one
        such row. `ndcg@k`: mean of 1 / log2(rank + 2), 0 past k (one relevant item a row). `coverage@k`: share of the
        catalogue that some query is shown. `mrr`: mean of 1 / (rank + 1).
        """
        num_items = self.shown.shape[1]
        reachable = self.ranks < num_items
        figures: dict[str, float] = {"mrr": float(np.mean(reachable / (self.ranks + 1.0)))}
        for k, shown in zip(KS, self.shown, strict=True):
            hits = self.ranks < min(k, num_items)
            figures[f"recall@{k}"] = float(hits.mean())
            figures[f"hit_rate@{k}"] = len(np.unique(self.users[hits])) / len(np.unique(self.users))
            figures[f"ndcg@{k}"] = float(self.row_values(f"ndcg@{k}").mean())
            figures[f"coverage@{k}"] = float(shown.mean())
        return figures

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
    query: Int64Array | None = None,
    progress: Progress = silent,
) -> dict[str, Ranking]:
    """Rank every row's target among all items (`all`) and among those its user has not seen (`unseen`).

    Items of equal score stand in the order of their index, as the served search has them. A target whose score is not
    finite is not found, whatever the others' are; and an item whose score is NaN stands before every target.

    Parameters
    ----------
    score
        Scores of a slice of the queries against the whole catalogue, float32 `[len(slice), items]`.
    targets, users
        int64 `[rows]`: the item that was chosen, and who chose it (a row of `seen`).
    coverage
        Look for each query's first items, too, which takes most of the time.
    query
        int64 `[rows]`: the query of each row; each is scored once, and all of its rows have one user. Without it every
        row is a query of its own.
    progress
        Told how far it is, about every two seconds.
    """
    query = np.arange(len(targets)) if query is None else query
    step = max(_QUERIES_AT_ONCE, _SCORES_AT_ONCE // max(num_items, 1))
    order = np.argsort(query, kind="stable")
    first = np.searchsorted(query[order], np.arange(int(query.max(initial=-1)) + 2))
    ranks = {name: np.empty(len(targets), np.int64) for name in ("all", "unseen")}
    shown = {name: np.zeros((len(KS), num_items), bool) for name in ranks}
    report = regularly(progress, "ranked the items for {:,} of {:,} queries", len(first) - 1)
    for start in range(0, len(first) - 1, step):
        queries = slice(start, min(start + step, len(first) - 1))
        rows, askers = order[first[start] : first[queries.stop]], users[order[first[queries]]]
        scores = _comparable(score(queries))
        placed = _ranks(scores, query[rows] - start, targets[rows], users[rows], seen)
        ranks["all"][rows], ranks["unseen"][rows] = placed
        if coverage:
            _mark_shown(scores, shown["all"])
            theirs = seen.pairs(askers)
            target_scores = scores[theirs]
            scores[theirs] = -np.inf
            _mark_shown(scores, shown["unseen"])
            scores[theirs] = target_scores  # they may be the caller's own
        report(queries.stop)
    return {name: Ranking(placed, users, shown[name]) for name, placed in ranks.items()}


def rank_users(
    score: Callable[[Int64Array], Float32Array],
    targets: Int64Array,
    users: Int64Array,
    seen: SeenItems,
    num_items: int,
    coverage: bool = True,
    progress: Progress = silent,
) -> dict[str, Ranking]:
    """Do what `rank_targets` does where all rows of a user are one query.

    `score` gets distinct users, int64 `[n]`, and returns float32 `[n, items]`.
    """
    distinct, query = np.unique(users, return_inverse=True)

    def scores(queries: slice) -> Float32Array:
        return score(distinct[queries])

    return rank_targets(scores, targets, users, seen, num_items, coverage, query, progress)


def rank_in_one_order(
    scores: Float32Array, targets: Int64Array, users: Int64Array, seen: SeenItems
) -> dict[str, Ranking]:
    """Do what `rank_users` does where everybody gets the same scores, float32 `[items]`, which are sorted once."""
    items = len(scores)
    place = np.empty(items, np.int64)
    place[np.argsort(-scores, kind="stable")] = np.arange(items)
    askers, asker = np.unique(users, return_inverse=True)
    row, theirs = seen.pairs(askers)
    places = np.unique(row * items + place[theirs])  # of each asker's seen items, ascending
    starts = np.searchsorted(places, np.arange(len(askers) + 1) * items)
    before = np.searchsorted(places, asker * items + place[targets]) - starts[asker]
    had = np.isin(asker * items + place[targets], places)
    unseen = np.where(had, items, place[targets] - before)
    shown = np.arange(items) < np.array(KS)[:, None]
    return {
        "all": Ranking(place[targets], users, shown[:, place]),
        "unseen": Ranking(unseen, users, _shown_unseen(places, starts, items)[:, place]),
    }


def _shown_unseen(places: Int64Array, starts: Int64Array, items: int) -> npt.NDArray[np.bool_]:
    """Return whether any asker's first k unseen items hold that at a place of the order; bool `[len(KS), items]`.

    The first k unseen items of an asker end where k places plus those of seen items among them do. A place is shown
    where more askers reach it than have seen what is there.
    """
    asker, at = np.divmod(places, items)
    unseen_before = at - (np.arange(len(places)) - starts[asker])
    shown = np.zeros((len(KS), items), bool)
    for mark, k in zip(shown, KS, strict=True):
        skipped = unseen_before < k
        ends = np.minimum(k + np.bincount(asker[skipped], minlength=len(starts) - 1), items)
        reach = len(ends) - np.cumsum(np.bincount(ends, minlength=items + 1))[:items]
        mark[:] = reach > np.bincount(at[skipped], minlength=items)
    return shown


def _comparable(scores: Float32Array) -> Float32Array:
    """Return scores without NaN, that can be written to: infinity, which no comparison finds before or behind a target.
    A copy is made only where it takes one."""
    if np.isnan(np.max(scores, initial=-np.inf)):
        return np.where(np.isnan(scores), np.float32(np.inf), scores)
    return np.require(scores, np.float32, "W")


def _ranks(
    scores: Float32Array, query: Int64Array, targets: Int64Array, users: Int64Array, seen: SeenItems
) -> Int64Array:
    """Return where targets `[rows]` stand in the scores of their queries, among all items and among those that their
    users have not seen; int64 `[2, rows]`."""
    items, own = scores.shape[1], scores[query, targets]
    ranks = np.full((2, len(targets)), items, np.int64)
    for row in np.flatnonzero(np.isfinite(own)):  # one at a time: a row of scores then stays in the cache
        among, score, target = scores[query[row]], own[row], targets[row]
        rank = int(np.count_nonzero(among > score))
        if np.count_nonzero(among >= score) > rank + 1:
            rank += np.count_nonzero(among[:target] == score)
        theirs = seen.of_user(users[row])
        had, place = among[theirs], np.searchsorted(theirs, target)
        ranks[:, row] = rank, rank - np.count_nonzero(had > score) - np.count_nonzero(had[:place] == score)
        if place < len(theirs) and theirs[place] == target:
            ranks[1, row] = items
    return ranks


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
    for marked, values_of_row in zip(chosen, scores, strict=True):
        if np.count_nonzero(marked) > 4 * k:  # mostly equal scores
            best_of_row = np.argsort(-values_of_row, kind="stable")[:k]
            marked[:] = False
            marked[best_of_row] = True
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
    """Return a score that at least k items of each row reach (if so many are above -inf), and few more; `[rows, 1]`.

    It is the k-th best among the best of some 2k groups of items: several times faster than the k-th best of all.
    """
    groups = min(scores.shape[1], 2 * k)
    grouped = scores[:, : scores.shape[1] // groups * groups]
    best = grouped.reshape(len(scores), -1, groups).max(axis=1)
    bound = np.partition(best, groups - k, axis=1)[:, groups - k, None]
    return np.maximum(bound, np.finfo(np.float32).min)
