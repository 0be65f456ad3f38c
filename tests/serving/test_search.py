"""Search is exact, leaves out what it must, and does not depend on the batch."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.serving import search as module
from ensemble.serving.search import Found, ItemSearch


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int, excluded: set[int]) -> list[int]:
    """Return the best items by score, ties by index; the inputs are small integers, so every sum is exact."""
    scores = vectors.astype(np.int64) @ query.astype(np.int64)
    order = sorted(set(range(len(vectors))) - excluded, key=lambda item: (-scores[item], item))
    return order[:k]


def search_by(way: str, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> ItemSearch:
    """Return a search that scans, or one that fetches through FAISS whatever the size."""
    if way == "scan":
        return ItemSearch(vectors)
    monkeypatch.setattr(module, "SCAN_ITEMS", 0)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return ItemSearch(vectors, index)


@pytest.mark.parametrize("way", ["scan", "fetch"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_equals_brute_force_with_ties_exclusions_and_any_k(way: str, data: st.DataObject) -> None:
    items, dim = data.draw(st.sampled_from([1, 2, 17, 40, 400])), data.draw(st.sampled_from([1, 3, 8]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    high = data.draw(st.sampled_from([1, 2, 5, 1000]))  # small numbers: hundreds of ties
    vectors = rng.integers(-high, high + 1, (items, dim)).astype(np.float32)
    queries = rng.integers(-high, high + 1, (data.draw(st.integers(1, 6)), dim)).astype(np.float32)
    k = rng.integers(1, data.draw(st.sampled_from([2, 12, items + 5])), len(queries))
    count = data.draw(st.sampled_from([0, 1, 5, 3 * items]))  # with duplicates, and more than there are items
    rows, left_out = rng.integers(0, len(queries), count), rng.integers(0, items, count)
    with pytest.MonkeyPatch.context() as patch:
        found = search_by(way, vectors, patch)(queries, k, rows, left_out)
    assert found.item_index.shape == found.score.shape == (len(queries), k.max())
    for row, query in enumerate(queries):
        expected = brute_force(vectors, query, int(k[row]), set(left_out[rows == row].tolist()))
        assert found.count[row] == len(expected)
        assert found.item_index[row].tolist() == expected + [-1] * (k.max() - len(expected))
        assert np.isneginf(found.score[row, len(expected) :]).all()
        np.testing.assert_array_equal(found.score[row, : len(expected)], vectors[expected] @ query)


@pytest.mark.parametrize("way", ["scan", "fetch"])
def test_a_row_gets_the_same_answer_alone_and_among_others(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(3000, 64)).astype(np.float32)
    vectors[1000:1200] = vectors[7]  # BLAS may round equal vectors differently
    queries = np.concatenate([vectors[7:8], rng.normal(size=(63, 64)).astype(np.float32)])
    search = search_by(way, vectors, monkeypatch)
    rows, items = rng.integers(0, 64, 2000), rng.integers(0, 3000, 2000)
    together = search(queries, np.full(64, 150), rows, items)
    for row in range(64):
        alone = search(queries[row : row + 1], np.array([150]), rows[rows == row] * 0, items[rows == row])
        assert_same(alone, Found(*(part[row : row + 1] for part in together)))


def test_scan_and_faiss_agree_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    vectors, queries = rng.normal(size=(5000, 32)).astype(np.float32), rng.normal(size=(40, 32)).astype(np.float32)
    rows, items = rng.integers(0, 40, 4000), rng.integers(0, 5000, 4000)
    arguments = queries, rng.integers(1, 300, 40), rows, items
    assert_same(ItemSearch(vectors)(*arguments), search_by("fetch", vectors, monkeypatch)(*arguments))


def test_a_batch_larger_than_a_block_is_answered_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    vectors, queries = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    arguments = queries, np.full(50, 20), rng.integers(0, 50, 300), rng.integers(0, 500, 300)
    whole = ItemSearch(vectors)(*arguments)
    monkeypatch.setattr(module, "_BLOCK_FLOATS", 500 * 7)
    assert_same(ItemSearch(vectors)(*arguments), whole)


def assert_same(found: Found, expected: Found) -> None:
    """Assert that two answers are bitwise equal."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
