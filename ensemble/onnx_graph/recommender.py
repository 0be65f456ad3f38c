"""Exact search as ONNX nodes: query vectors to the ids of the best items, without those that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemble.onnx_graph.builder import Builder
from ensemble.release.raw_feeds import PADDING
from ensemble.serving.triton.tensors import NO_SCORE

Outputs = dict[str, tuple[str, str, list[Any]]]


def best(
    graph: Builder, queries: str, items: tuple[np.ndarray, np.ndarray], metric: str, top_k: int, left_out: list[str]
) -> Outputs:
    """Return the outputs: the best items of float32 `[n, d]` queries, best first, ties in catalogue order.

    `items` are their vectors, float32 `[items, d]`, and ids; `left_out` are ids `[n, m]`, any of them unknown.
    """
    vectors, ids = items
    dtype = "string" if ids.dtype == object else "int64"
    scores = _scores(graph, queries, vectors, metric)
    for names in left_out:
        scores = _without(graph, scores, graph.lookup(names, ids, np.arange(len(ids)), len(ids)), len(ids))
    k = min(top_k, len(ids))
    score, rows = graph.add_all("TopK", 2, scores, graph.constant([k], np.int64), axis=1)
    real = graph.add("Greater", score, graph.constant(-np.inf, np.float32))
    nobody = np.array(PADDING[dtype], dtype=object if dtype == "string" else np.int64)
    item_id = graph.add("Where", real, graph.add("Gather", graph.constant(ids), rows), graph.constant(nobody))
    count = graph.add("ReduceSum", graph.cast(real, "int32"), graph.constant([1], np.int64), keepdims=0)
    return {
        "item_id": (item_id, dtype, ["n", k]),
        "score": (graph.add("Max", score, graph.constant(NO_SCORE, np.float32)), "float32", ["n", k]),
        "count": (count, "int32", ["n"]),
    }


def _scores(graph: Builder, queries: str, vectors: np.ndarray, metric: str) -> str:
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        length = graph.add("ReduceL2", queries, axes=[1], keepdims=1)
        zero = graph.add("Equal", length, graph.constant(0, np.float32))
        queries = graph.add("Div", queries, graph.add("Where", zero, graph.constant(1, np.float32), length))
    products = graph.add("MatMul", queries, graph.constant(np.ascontiguousarray(vectors.T)))
    if metric != "l2":
        return products
    own = graph.add("ReduceSumSquare", queries, axes=[1], keepdims=1)
    squares = graph.add("Add", own, graph.constant(np.einsum("id,id->i", vectors, vectors)[None]))
    return graph.add("Sub", graph.add("Mul", products, graph.constant(2, np.float32)), squares)


def _without(graph: Builder, scores: str, rows: str, items: int) -> str:
    """Return the scores with -inf in `rows`, int64 `[n, m]`; row `items` is no item's."""
    wider = graph.add("Pad", scores, graph.constant([0, 0, 0, 1], np.int64), graph.constant(0, np.float32))
    shape = graph.add("Shape", rows)
    nothing = graph.add("Expand", graph.constant(-np.inf, np.float32), shape)
    marked = graph.add("ScatterElements", wider, rows, nothing, axis=1)
    ends = ([0], [items], [1])
    return graph.add("Slice", marked, *(graph.constant(bound, np.int64) for bound in ends))
