"""Tunes how far an index must look to reach a recall target, measured against exact search on real queries.

The inverted lists that hold a query's true neighbours are known once these are, so the number of lists to read, and
their distance from the best one, is computed instead of searched for. The loss by shortened codes is measured and
compensated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import faiss
import numpy as np

from ensemble.serving.index.engine import Engine
from ensemble.serving.index.faiss_index import FaissIndex, distance_from_best
from ensemble.serving.index.vectors import scores
from ensemble.serving.threads import limit_blas_threads

AT = (1, 10, 100)
"""The recall target holds for each of these k."""
CONFIDENCE = 1.64
"""Standard errors by which the measured recall must exceed the target: 95 %, one-sided, for other queries."""
TIMED = 300
_ATTEMPTS = 5
_MOST_LISTS = 1024
_LIST_COST = 40.0
"""Cost of opening a list, in items compared; measured."""
_CAPS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_BLOCK_ITEMS = 1 << 16
_Array = np.ndarray


class Point(NamedTuple):
    """A kind of index with search parameters, measured."""

    kind: str
    search: dict[str, Any]
    recall: dict[int, float]
    """Share of the true k nearest that is found, by k."""
    sure: float
    """The least recall over k, minus a margin for chance."""
    p50_us: float
    p99_us: float
    mean_us: float
    """One query at a time on one thread, microseconds of CPU."""
    memory_mb: float
    """Memory of the index beside the item vectors."""
    build_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the point as `index/params.json` states it."""
        recall = {f"recall@{k}": round(value, 5) for k, value in self.recall.items()}
        times = {"p50_us": round(self.p50_us, 1), "p99_us": round(self.p99_us, 1), "mean_us": round(self.mean_us, 1)}
        size = {"memory_mb": round(self.memory_mb, 2), "build_s": round(self.build_s, 2)}
        return {"kind": self.kind, "search": self.search, **recall, **times, **size}


class Sample(NamedTuple):
    """Queries and their true nearest items."""

    queries: _Array
    """float32 [n, d]."""
    truth: _Array
    """int64 [n, k]: the nearest items, best first."""
    vectors: _Array
    """float32 [items, d]."""
    metric: str

    def recalls(self, rows: _Array) -> dict[int, _Array]:
        """Return each query's recall, float64 [n], for each k of AT, given the rows that were found, int64 [n, at least
        k].

        An item that ties with the k-th true one counts as found.
        """
        true_scores, scores = self._scores(self.truth), self._scores(rows)
        tolerance = 1e-5 * np.maximum(1, np.abs(true_scores))
        recall_at = {}
        for k in AT:
            k_held = min(k, true_scores.shape[1])
            least = (true_scores - tolerance)[:, k_held - 1 : k_held]
            recall_at[k] = (scores[:, :k_held] >= least).mean(axis=1)
        return recall_at

    def _scores(self, rows: _Array) -> _Array:
        return scores(self.vectors, self.queries, rows, self.metric)


def nearest(vectors: _Array, queries: _Array, k: int, metric: str) -> _Array:
    """Return the `k` nearest items, int64 [n, k], best first, of queries float32 [n, d], by exact comparison."""
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    best = np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ITEMS):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK_ITEMS])
        score, squares = queries @ block.T, np.einsum("id,id->i", block, block)
        if metric == "l2":
            score -= squares / 2
        elif metric == "cosine":
            score /= np.sqrt(np.where(squares > 0, squares, 1))
        top = score.argpartition(-min(k, len(block)), axis=1)[:, -k:]
        rows = np.concatenate([rows, top + start], axis=1)
        best = np.concatenate([best, np.take_along_axis(score, top, axis=1)], axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1)


class Probes:
    """The inverted lists of the sample's true neighbours, and the cost of reading them."""

    def __init__(self, index: FaissIndex, sample: Sample) -> None:
        """Take an IVF index that searches without a margin."""
        list_of, most = index.list_of_item(), min(index.lists, _MOST_LISTS)
        assert list_of is not None
        distances, lists = index.nearest_centroids(sample.queries, most)
        self._margins = distance_from_best(sample.queries, distances, sample.metric)
        self._sizes = np.bincount(list_of, minlength=index.lists)[lists].cumsum(axis=1)
        rank = np.full((len(lists), index.lists), most, dtype=np.int32)
        np.put_along_axis(rank, lists, np.arange(most, dtype=np.int32)[None, :], axis=1)
        self._rank = np.take_along_axis(rank, list_of[sample.truth].astype(np.int64), axis=1)
        padded = np.append(self._margins, np.full((len(lists), 1), np.inf), axis=1)
        self._margin = np.take_along_axis(padded, self._rank.astype(np.int64), axis=1)
        self._most = most

    def cheapest(self, target: float) -> dict[str, Any] | None:
        """Return the cheapest `nprobe`, `margin` and `compared` that reach the target; None: none does."""
        least = _bisected(lambda nprobe: self._sure(nprobe, np.inf) >= target, 1, self._most)
        if least is None:
            return None
        plans = [self._plan(min(round(least * factor), self._most), target) for factor in _CAPS]
        return min(plans, key=lambda plan: plan[0])[1]

    def _plan(self, nprobe: int, target: float) -> tuple[float, dict[str, Any]]:
        """Return the cost of at most `nprobe` lists with the least margin that reaches the target, and parameters."""
        values = np.unique(np.quantile(self._margins[:, :nprobe], np.linspace(0, 1, 2000)))
        place = _bisected(lambda place: self._sure(nprobe, values[place]) >= target, 0, len(values) - 1)
        margin = float(values[len(values) - 1 if place is None else place])
        read = np.minimum((self._margins <= margin).sum(axis=1), nprobe)
        compared = self._sizes[np.arange(len(read)), read - 1]
        cost = float((compared + _LIST_COST * read).mean())
        return cost, {"nprobe": nprobe, "margin": round(margin, 6), "compared": round(float(compared.mean()))}

    def _sure(self, nprobe: int, margin: float) -> float:
        reached = (self._rank < nprobe) & (self._margin <= margin + 1e-6)
        return sure({k: reached[:, :k].mean(axis=1) for k in AT})


def sure(recalls: Mapping[int, _Array]) -> float:
    """Return the least mean recall over k, from float64 [n] per query, minus CONFIDENCE standard errors."""
    return min(float(hits.mean() - CONFIDENCE * hits.std() / np.sqrt(max(len(hits), 1))) for hits in recalls.values())


def tuned(kind: str, index: Any, vectors: _Array, sample: Sample, refine: float, target: float) -> FaissIndex | None:
    """Return the index with the cheapest search that reaches the target; None: no search of this kind does."""
    base = {"kind": kind, "metric": sample.metric}
    if kind == "hnsw":
        return _tuned_graph(index, vectors, sample, base, refine, target)
    whole = FaissIndex(index, vectors, {**base, "search": {"nprobe": 1}})
    probes, least_recall = Probes(whole, sample), target
    for _ in range(_ATTEMPTS):
        search = probes.cheapest(least_recall)
        if search is None:
            return None
        searched = FaissIndex(index, vectors, {**base, "search": {**search, "refine_factor": refine}})
        short = target - sure(sample.recalls(found_by(searched, sample)))
        if short <= 0:
            return searched
        least_recall += short + 0.0005  # the codes lost that much
        if least_recall >= 1:
            return None
    return None


def _tuned_graph(
    index: Any, vectors: _Array, sample: Sample, base: dict[str, Any], refine: float, target: float
) -> FaissIndex | None:
    steps = [round(AT[-1] * 2 ** (step / 4)) for step in range(17)]

    def at(place: int) -> FaissIndex:
        return FaissIndex(index, vectors, {**base, "search": {"ef": steps[place], "refine_factor": refine}})

    place = _bisected(lambda step: sure(sample.recalls(found_by(at(step), sample))) >= target, 0, len(steps) - 1)
    return None if place is None else at(place)


def found_by(index: Engine, sample: Sample) -> _Array:
    """Return the rows that the index finds for the sample, int64 [n, 100]."""
    return index.search(sample.queries, sample.truth.shape[1])[1]


def measured(index: Engine, sample: Sample, memory_mb: float, build_s: float) -> Point:
    """Measure the recall on the whole sample, and the time of its first queries, one by one on one thread."""
    recalls = sample.recalls(found_by(index, sample))
    times = timed(lambda query: index.search(query, AT[-1]), sample.queries[:TIMED])
    means = {k: float(recall.mean()) for k, recall in recalls.items()}
    return Point(index.kind, index.settings, means, sure(recalls), *summed_up(times), memory_mb, build_s)


def summed_up(times: _Array) -> tuple[float, float, float]:
    """Return median, 99th percentile and mean."""
    return float(np.median(times)), float(np.percentile(times, 99)), float(times.mean())


def timed(search: Any, queries: _Array) -> _Array:
    """Return the CPU microseconds of each query, float64 [n], on this thread, with FAISS on one thread.

    By the thread's own clock, which other processes of the machine do not disturb.
    """
    with one_thread():
        for query in queries[:20]:
            search(query[None])
        return np.array([_seconds(search, query[None]) for query in queries]) * 1e6


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS and BLAS to one thread inside the block."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    limit_blas_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
        limit_blas_threads(threads)


def _seconds(search: Any, query: _Array) -> float:
    started = time.thread_time()
    search(query)
    return time.thread_time() - started


def _bisected(holds: Any, low: int, high: int) -> int | None:
    """Return the least number from `low` to `high` for which a monotonic condition holds; None: none."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
