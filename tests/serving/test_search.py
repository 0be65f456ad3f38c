"""Search is exact where it says so, leaves out what it must, and does not depend on the batch."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.serving.index import costs
from ensemble.serving.index.faiss_index import FaissIndex
from ensemble.serving.search import search as module
from ensemble.serving.search.masks import Allowed, ItemMask
from ensemble.serving.search.search import Found, ItemSearch, no_exclusions

WAYS = ("scan", "gather", "index")


def brute_force(scores: np.ndarray, k: int, allowed: set[int]) -> list[int]:
    """Return the best allowed items by score, ties by index."""
    return sorted(allowed, key=lambda item: (-scores[item], item))[:k]


def exact_scores(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """Return every item's score; the inputs are small integers, so every sum is exact."""
    whole, point = vectors.astype(np.int64), query.astype(np.int64)
    return -((whole - point) ** 2).sum(axis=1) if metric == "l2" else whole @ point


def full_index(
    vectors: np.ndarray, metric: str = "inner_product", lists: int = 4, probes: int | None = None
) -> FaissIndex:
    """Return an IVF index; by default it visits every list, so that it misses nothing but ties."""
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    quantizer = (faiss.IndexFlatL2 if metric == "l2" else faiss.IndexFlatIP)(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, kind)
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    parameters = {"kind": "ivf_flat", "metric": metric, "search": {"nprobe": probes or lists}}
    return FaissIndex(index, vectors, parameters)


def force(way: str, patch: pytest.MonkeyPatch) -> None:
    """Make every way but one too dear."""
    ways = {"scan": ["SCAN_NS"], "gather": ["GATHER_NS"], "index": ["INDEX_NS", "CALL_NS"]}
    for name, constants in ways.items():
        for constant in constants:
            patch.setattr(costs, constant, 0.0 if name == way else 1e12)
    patch.setattr(costs, "SMALL", 0)
    patch.setattr(costs, "LIST_NS", 0.0)
    patch.setattr(costs, "MISSING", -1.0)  # every list is read
    patch.setattr(costs, "OFTEN", 0.0)


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_brute_force_with_ties_masks_exclusions_and_any_k(metric: str, data: st.DataObject) -> None:
    items, dim = data.draw(st.sampled_from([1, 2, 17, 40, 400])), data.draw(st.sampled_from([1, 3, 8]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    high = data.draw(st.sampled_from([1, 2, 5, 1000]))  # small numbers: hundreds of ties
    vectors = rng.integers(-high, high + 1, (items, dim)).astype(np.float32)
    queries = rng.integers(-high, high + 1, (data.draw(st.integers(1, 6)), dim)).astype(np.float32)
    k = rng.integers(1, data.draw(st.sampled_from([2, 12, items + 5])), len(queries))
    count = data.draw(st.sampled_from([0, 1, 5, 3 * items]))  # with duplicates, and more than there are items
    rows, left_out = rng.integers(0, len(queries), count), rng.integers(0, items, count)
    live = rng.random(items) < data.draw(st.sampled_from([1.0, 0.9, 0.3]))
    shares = data.draw(st.lists(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]), max_size=3))
    bits = [rng.random(items) < share for share in shares]
    of_row = rng.integers(-1, len(bits), len(queries))
    with pytest.MonkeyPatch.context() as patch:
        force(data.draw(st.sampled_from(["scan", "gather"])), patch)
        search = ItemSearch(vectors, metric=metric, live=live)
        allowed = Allowed([search.mask(mask) for mask in bits], of_row) if bits else None
        answer = search.nearest(queries, k, rows, left_out, allowed)
    assert answer.item_index.shape == answer.score.shape == (len(queries), k.max())
    for row, query in enumerate(queries):
        may = live & (bits[of_row[row]] if bits and of_row[row] >= 0 else True)
        scores = exact_scores(vectors, query, metric)
        expected = brute_force(scores, int(k[row]), {*np.flatnonzero(may).tolist()} - {*left_out[rows == row].tolist()})
        assert answer.count[row] == len(expected)
        assert answer.item_index[row].tolist() == expected + [-1] * (k.max() - len(expected))
        assert np.isneginf(answer.score[row, len(expected) :]).all()
        np.testing.assert_array_equal(answer.score[row, : len(expected)], scores[expected])


def scene(seed: int = 4, items: int = 5000, rows: int = 40) -> tuple[np.ndarray, tuple[Any, ...], list[np.ndarray]]:
    """Return vectors, the arguments of a search with exclusions, and filters of every selectivity."""
    rng = np.random.default_rng(seed)
    vectors, queries = rng.normal(size=(items, 32)).astype(np.float32), rng.normal(size=(rows, 32)).astype(np.float32)
    excluded = rng.integers(0, rows, 100 * rows), rng.integers(0, items, 100 * rows)
    masks = [rng.random(items) < share for share in (1.0, 0.5, 0.1, 0.01, 0.001)]
    return vectors, (queries, rng.integers(1, 300, rows), *excluded), masks


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_answer_bit_for_bit(way: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With removed items, items that the index does not hold yet, and filters, in one batch."""
    vectors, arguments, masks = scene()
    live = np.random.default_rng(1).random(len(vectors)) < 0.97
    of_row = np.arange(len(arguments[0])) % (len(masks) + 1) - 1
    plain = ItemSearch(vectors, metric=metric, live=live)
    expected = plain.nearest(*arguments, Allowed([plain.mask(mask) for mask in masks], of_row))
    force(way, monkeypatch)
    search = ItemSearch(vectors, full_index(vectors[:4900], metric), metric=metric, live=live)
    assert search.plan(arguments[0], 10, search.mask(masks[1])).way == way
    assert_same(search.nearest(*arguments, Allowed([search.mask(mask) for mask in masks], of_row)), expected)
    assert_same(search.nearest(*arguments), plain.nearest(*arguments))


def test_the_scores_are_those_of_the_metric() -> None:
    vectors, (queries, *_), _ = scene()
    expected = {
        "inner_product": queries @ vectors.T,
        "cosine": (queries @ vectors.T)
        / np.linalg.norm(vectors, axis=1)
        / np.linalg.norm(queries, axis=1, keepdims=True),
        "l2": -((queries[:, None] - vectors[None]) ** 2).sum(axis=2),
    }
    for metric, scores in expected.items():
        answer = ItemSearch(vectors, metric=metric).nearest(queries, np.full(40, 20), *no_exclusions())
        np.testing.assert_allclose(answer.score, -np.sort(-scores, axis=1)[:, :20], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"'dot'.*expected one of inner_product, cosine, l2"):
        ItemSearch(vectors, metric="dot")


def test_too_few_from_the_index_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that looks in one list of many cannot know how many answers there are."""
    vectors, (queries, *_), masks = scene(rows=8)
    force("index", monkeypatch)
    search = ItemSearch(vectors, full_index(vectors, lists=64, probes=1))
    monkeypatch.setattr(costs, "MISSING", 19.0)  # times 1 - recall_target: hardly a list
    answer = search.nearest(
        queries, np.full(8, 100), *no_exclusions(), Allowed([search.mask(masks[2])], np.zeros(8, np.int64))
    )
    assert (answer.count == 100).all()
    assert masks[2][answer.item_index].all()
    whole = search.nearest(queries, np.full(8, len(vectors)), *no_exclusions())
    assert (whole.count == len(vectors)).all()


def test_a_few_removed_items_are_sifted_out_of_what_the_index_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, arguments, _ = scene()
    best = ItemSearch(vectors).nearest(*arguments).item_index[:, 0]
    live = np.ones(len(vectors), dtype=bool)
    live[best] = False
    expected = ItemSearch(vectors, live=live).nearest(*arguments)
    force("index", monkeypatch)
    assert_same(ItemSearch(vectors, full_index(vectors), live=live).nearest(*arguments), expected)
    assert not np.isin(expected.item_index, best).any()


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
@pytest.mark.parametrize("longer", [1.0, 3.0])
def test_a_search_extended_by_items_answers_as_one_made_of_all(metric: str, longer: float) -> None:
    vectors, arguments, _ = scene()
    vectors[4900:] *= longer
    live = np.random.default_rng(1).random(len(vectors)) < 0.97
    if metric == "cosine" and longer == 1.0:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first = ItemSearch(vectors[:4900], metric=metric, live=live[:4900])
    assert_same(
        first.extended(vectors, live).nearest(*arguments),
        ItemSearch(vectors, metric=metric, live=live).nearest(*arguments),
    )


@pytest.mark.parametrize("way", ["scan", "gather"])
def test_a_row_gets_the_same_answer_alone_and_among_others(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(3000, 64)).astype(np.float32)
    vectors[1000:1200] = vectors[7]  # BLAS may round equal vectors differently
    queries = np.concatenate([vectors[7:8], rng.normal(size=(63, 64)).astype(np.float32)])
    force(way, monkeypatch)
    search = ItemSearch(vectors)
    masks = [search.mask(rng.random(3000) < share) for share in (0.9, 0.2)]
    rows, items, of_row = rng.integers(0, 64, 2000), rng.integers(0, 3000, 2000), rng.integers(-1, 2, 64)
    together = search.nearest(queries, np.full(64, 150), rows, items, Allowed(masks, of_row))
    for row in range(64):
        alone = search.nearest(
            queries[row : row + 1],
            np.array([150]),
            rows[rows == row] * 0,
            items[rows == row],
            Allowed(masks, of_row[row : row + 1]),
        )
        assert_same(alone, Found(*(part[row : row + 1] for part in together)))


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_larger_than_a_block_is_answered_block_by_block(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    vectors, queries = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    force(way, monkeypatch)
    search = ItemSearch(vectors, full_index(vectors))
    allowed = Allowed([search.mask(rng.random(500) < 0.5)], np.arange(50) % 2 - 1)
    arguments = queries, np.full(50, 20), rng.integers(0, 50, 300), rng.integers(0, 500, 300), allowed
    whole = search.nearest(*arguments)
    monkeypatch.setattr(module, "_BLOCK_FLOATS", 500 * 7)
    assert_same(search.nearest(*arguments), whole)


def test_the_planner_reads_lists_that_hold_what_is_allowed_or_compares_where_that_is_cheaper() -> None:
    """A query of a cluster that is not allowed has its answers in several others, none of them near."""
    rng = np.random.default_rng(6)
    centres = rng.standard_normal((40, 64), dtype=np.float32)
    cluster = np.arange(60_000) % 40
    vectors = centres[cluster] + 0.1 * rng.standard_normal((60_000, 64), dtype=np.float32)
    index = full_index(vectors, lists=64, probes=2)
    search = ItemSearch(vectors, index)
    mask = search.mask(cluster < 20)
    near, far = search.plan(vectors[:1], 10, mask), search.plan(vectors[39:40], 10, mask)
    assert near.way == far.way == "index"
    assert near.probes is not None
    assert far.probes is not None
    assert near.probes.reads < far.probes.reads < 30_000
    of_item = index.list_of_item()
    assert of_item is not None
    assert set(far.probes.lists.ravel()) <= set(of_item[mask.bits])
    assert search.plan(vectors[:1], 10, ItemMask(np.arange(60_000) < 50)).way == "gather"
    assert search.plan(vectors[:1], 10).way == "index"
    assert ItemSearch(vectors).plan(vectors[:1], 10).way == "scan"


def assert_same(answer: Found, expected: Found) -> None:
    """Assert that two answers are bitwise equal."""
    for array, expected_array in zip(answer, expected, strict=True):
        np.testing.assert_array_equal(array, expected_array)
