"""Through an approximate index, a filter costs no recall: however little it allows, and wherever that is."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from benchmarks.search.vectors import SELECTIVITIES, K, allowed_items, exact, make_vectors, recall
from ensemble.serving.index.faiss_index import FaissIndex
from ensemble.serving.search.masks import Allowed
from ensemble.serving.search.search import ItemSearch, no_exclusions

ITEMS = 50_000


@pytest.fixture(scope="module")
def scene() -> tuple[Any, ItemSearch]:
    """Clustered vectors and a search through an IVF index over them."""
    data = make_vectors(ITEMS, 60, clusters=500)
    index = faiss.index_factory(64, "IVF256,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 5
    index.train(data.vectors[::4])
    index.add(data.vectors)
    parameters = {"kind": "ivf_sq8", "metric": "inner_product", "search": {"nprobe": 24, "refine_factor": 2.0}}
    return data, ItemSearch(data.vectors, FaissIndex(index, data.vectors, parameters))


def found_by(search: ItemSearch, queries: np.ndarray, bits: np.ndarray) -> list[np.ndarray]:
    """Return the answers to queries asked one by one."""
    allowed = Allowed([search.mask(bits)], np.zeros(1, dtype=np.int64))
    return [search.nearest(query[None], np.array([K]), *no_exclusions(), allowed).item_index[0] for query in queries]


@pytest.mark.parametrize("clustered", [False, True], ids=["scattered", "clustered"])
@pytest.mark.parametrize("selectivity", SELECTIVITIES)
def test_recall_holds_at_every_selectivity(scene: tuple[Any, ItemSearch], selectivity: float, clustered: bool) -> None:
    data, search = scene
    bits = allowed_items(data.cluster, selectivity, clustered)
    everything = np.ones(ITEMS, dtype=bool)
    without = recall(found_by(search, data.queries, everything), exact(data, search.mask(everything)))
    assert search.plan(data.queries[:1], K).way == "index"
    assert 0.9 < without < 1, "else this shows nothing"
    answers = found_by(search, data.queries, bits)
    assert recall(answers, exact(data, search.mask(bits))) >= without - 0.01
    for items in answers:  # as many as there are, each allowed, none twice
        assert bits[items[items >= 0]].all()
        assert len(np.unique(items[items >= 0])) == (items >= 0).sum() == min(K, bits.sum())
