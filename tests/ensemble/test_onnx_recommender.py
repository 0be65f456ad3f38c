"""One graph's search gives the items and scores of the release's own, bit for bit."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from ensemble.onnx_graph.builder import Builder
from ensemble.onnx_graph.recommender import best
from ensemble.serving.search.search import ItemSearch

ITEMS, WIDTH, TOP_K = 3_000, 24, 50


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
def test_items_scores_and_ties_are_those_of_the_release(metric: str) -> None:
    random = np.random.default_rng(7)
    vectors = random.standard_normal((ITEMS, WIDTH)).astype(np.float32)
    vectors[1::2] = vectors[::2] + random.choice([0, 1e-7], (ITEMS // 2, WIDTH)).astype(np.float32)  # nearly its twin
    queries = random.standard_normal((200, WIDTH)).astype(np.float32)
    ids = np.arange(ITEMS, dtype=np.int64) * 10
    graph = Builder()
    outputs = best(
        graph,
        graph.take("query", "float32", ["n", WIDTH]),
        (vectors, ids),
        metric,
        TOP_K,
        [graph.take("left_out", "int64", ["n", "m"])],
    )
    session = ort.InferenceSession(graph.model(outputs).SerializeToString())
    left_out = random.integers(0, ITEMS, (200, 5))
    item_id, score = session.run(["item_id", "score"], {"query": queries, "left_out": ids[left_out]})
    expected = ItemSearch(vectors, metric=metric).nearest(
        queries, np.full(200, TOP_K), np.repeat(np.arange(200), 5), left_out.ravel()
    )
    np.testing.assert_array_equal(item_id, ids[expected.item_index])
    np.testing.assert_array_equal(score, expected.score)
