"""Exact search as ONNX nodes: query vectors to the ids of the best items, without those that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemble.onnx_graph.builder import Builder
from ensemble.release.raw_feeds import PADDING
from ensemble.serving.search.scoring import Scoring
from ensemble.serving.search.search import SPARE
from ensemble.serving.triton.tensors import NO_SCORE

Outputs = dict[str, tuple[str, str, list[Any]]]
_LOWEST = np.float32(-np.inf)


def best(
    graph: Builder, queries: str, items: tuple[np.ndarray, np.ndarray], metric: str, top_k: int, left_out: list[str]
) -> Outputs:
    """Return the outputs: the best items of float32 `[n, d]` queries, best first, ties in catalogue order.

    `items` are their vectors, float32 `[items, d]`, and ids; `left_out` are ids `[n, m]`, any of them unknown.
    """
    scoring, ids = Scoring(items[0], metric), items[1]
    dtype = "string" if ids.dtype == object else "int64"
    vectors = graph.constant(scoring.vectors)
    queries = _prepared(graph, queries, metric)
    scores = _quick(graph, queries, vectors, metric)
    for names in left_out:
        scores = _without(graph, scores, graph.lookup(names, ids, np.arange(len(ids)), len(ids)), len(ids))
    k = min(top_k, len(ids))
    fetched = [min(k + SPARE, len(ids))]
    _, candidates = graph.add_all("TopK", 2, scores, fetched, axis=1)
    candidates, _ = graph.add_all("TopK", 2, candidates, fetched, axis=1, largest=0)  # ascending, as ties are to be
    allowed = graph.add("Greater", graph.add("GatherElements", scores, candidates, axis=1), _LOWEST)
    exact = _exact(graph, queries, graph.add("Gather", vectors, candidates), metric)
    score, places = graph.add_all("TopK", 2, graph.add("Where", allowed, exact, _LOWEST), [k], axis=1)
    rows = graph.add("GatherElements", candidates, places, axis=1)
    real = graph.add("Greater", score, _LOWEST)
    nobody = np.array(PADDING[dtype], dtype=object if dtype == "string" else np.int64)
    item_id = graph.add("Where", real, graph.add("Gather", ids, rows), nobody)
    count = graph.add("ReduceSum", graph.cast(real, "int32"), [1], keepdims=0)
    return {
        "item_id": (item_id, dtype, ["n", k]),
        "score": (graph.add("Max", score, NO_SCORE), "float32", ["n", k]),
        "count": (count, "int32", ["n"]),
    }


def _prepared(graph: Builder, queries: str, metric: str) -> str:
    """See `Scoring.prepared`."""
    if metric != "cosine":
        return queries
    wide = graph.cast(queries, "float64")
    length = graph.add("Sqrt", graph.add("ReduceSumSquare", wide, axes=[1], keepdims=1))
    zero = graph.add("Equal", length, 0.0)
    length = graph.add("Where", zero, 1.0, length)
    return graph.cast(graph.add("Div", wide, length), "float32")


def _quick(graph: Builder, queries: str, vectors: str, metric: str) -> str:
    """See `Scoring.quick`: float32 `[n, items]`."""
    products = graph.add("MatMul", queries, graph.add("Transpose", vectors, perm=[1, 0]))
    if metric != "l2":
        return products
    squares = graph.add("ReduceSumSquare", vectors, axes=[1], keepdims=0)
    return graph.add("Sub", products, graph.add("Div", squares, np.float32(2)))


def _exact(graph: Builder, queries: str, candidates: str, metric: str) -> str:
    """See `Scoring.exact`: float32 `[n, m]` of `[n, m, d]` candidates."""
    wide = graph.add("Unsqueeze", graph.cast(queries, "float64"), [1])
    candidates = graph.cast(candidates, "float64")
    if metric != "l2":
        products = graph.add("Mul", candidates, wide)
        return graph.cast(graph.add("ReduceSum", products, [2], keepdims=0), "float32")
    squares = graph.add("ReduceSumSquare", graph.add("Sub", candidates, wide), axes=[2], keepdims=0)
    return graph.cast(graph.add("Neg", squares), "float32")


def _without(graph: Builder, scores: str, rows: str, items: int) -> str:
    """Return the scores with -inf in `rows`, int64 `[n, m]`; row `items` is no item's."""
    wider = graph.add("Pad", scores, [0, 0, 0, 1], np.float32(0))
    nothing = graph.add("Expand", _LOWEST, graph.add("Shape", rows))
    marked = graph.add("ScatterElements", wider, rows, nothing, axis=1)
    return graph.add("Slice", marked, [0], [items], [1])
