"""What `auto` chooses finds what the recipe asks for, within the memory it may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from ensemble.config import Index
from ensemble.index import build as module
from ensemble.index.build import build_index, config_of
from ensemble.index.kmeans import assign, centroids
from ensemble.index.tuning import AT, Sample, nearest
from ensemble.serving.files.faiss_file import Expected, check_file
from ensemble.serving.index.faiss_index import FaissIndex
from workflows.errors import ReleaseError

ITEMS, DIM, TARGET = 8000, 32, 0.9


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clustered items of length 1; queries to tune with, and others."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(200, DIM)).astype(np.float32)

    def near(count: int) -> np.ndarray:
        points = centres[rng.integers(0, 200, count)] + 0.8 * rng.normal(size=(count, DIM))
        return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)

    return near(ITEMS), near(300), near(300)


def recalls(built: Any, vectors: np.ndarray, queries: np.ndarray, metric: str) -> dict[int, float]:
    """Return what an index finds of the truth, by k."""
    index = FaissIndex(faiss.deserialize_index(np.frombuffer(built.content, np.uint8)), vectors, built.parameters)
    truth = nearest(vectors, queries, AT[-1], metric)
    by_k = Sample(queries, truth, vectors, metric).recalls(index.search(queries, AT[-1])[1])
    return {k: float(recall.mean()) for k, recall in by_k.items()}


def test_a_small_catalogue_is_compared_as_a_whole() -> None:
    built = build_index(np.eye(8, dtype=np.float32), Index())
    assert built.content is None
    assert built.parameters["kind"] == "flat"
    assert built.parameters["is_exact"]


def test_auto_meets_the_target_within_the_budget_and_says_what_it_saw(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARED_ITEMS", 0)
    monkeypatch.setattr(module, "GRAPH_ITEMS", 0)
    vectors, tuning, held_out = scene
    built = build_index(vectors, Index(recall_target=TARGET, memory_budget_mb=1), lambda: tuning)
    frontier = built.parameters["frontier"]
    assert built.parameters["target_met"]
    assert {row["kind"] for row in frontier} == {"flat", "ivf_sq8", "ivf_pq"}  # the floats take more than the budget
    assert all(row["memory_mb"] <= 1 for row in frontier)
    met = [row for row in frontier if min(row[f"recall@{k}"] for k in AT) >= TARGET]
    quickest = min(row["mean_us"] for row in met)
    chosen = next(row for row in frontier if row["search"] == built.parameters["search"])
    assert chosen in met
    assert chosen["mean_us"] <= quickest * module.ALIKE**2
    if built.content is not None:
        assert min(recalls(built, vectors, tuning, "inner_product").values()) >= TARGET
        assert min(recalls(built, vectors, held_out, "inner_product").values()) >= TARGET - 0.02


@pytest.mark.parametrize(
    ("kind", "metric"), [("ivf_sq8", "l2"), ("ivf_pq", "cosine"), ("ivf_flat", "inner_product"), ("hnsw", "l2")]
)
def test_a_named_kind_is_tuned_to_the_target(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray], kind: Any, metric: Any
) -> None:
    vectors, tuning, held_out = scene
    vectors = vectors[:6000] * np.linspace(0.8, 1.2, 6000, dtype=np.float32)[:, None]
    built = build_index(vectors, Index(kind=kind, metric=metric, recall_target=0.95), tuning)
    assert built.parameters["target_met"]
    assert min(recalls(built, vectors, tuning, metric).values()) >= 0.95
    assert min(recalls(built, vectors, held_out, metric).values()) >= 0.92


@pytest.mark.parametrize("width", [9, 11])
@pytest.mark.parametrize("kind", ["ivf_sq8", "ivf_pq", "ivf_flat", "hnsw"])
def test_vectors_of_odd_widths_are_indexed(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray], kind: Any, width: int, tmp_path: Path
) -> None:
    """A blend adds as many numbers to the towers' as its models have; a server checks the file before it opens it."""
    vectors, tuning = (np.ascontiguousarray(rows[:, :width]) for rows in (scene[0][:3000], scene[1][:50]))
    built = build_index(vectors, Index(kind=kind, metric="inner_product", recall_target=0.8), tuning)
    (tmp_path / "items.faiss").write_bytes(built.content or b"")
    check_file(tmp_path / "items.faiss", Expected(kind, len(vectors), width, faiss.METRIC_INNER_PRODUCT))
    assert min(recalls(built, vectors, tuning, "inner_product").values()) >= 0.8


def test_fixed_parameters_stay_as_they_are(scene: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors = scene[0][:3000]
    built = build_index(vectors, Index(kind="ivf_flat", nlist=30, nprobe=4, refine_factor=2.0), scene[1])
    assert built.parameters["search"] == {"nprobe": 4, "refine_factor": 2.0}
    assert faiss.deserialize_index(np.frombuffer(built.content or b"", np.uint8)).nlist == 30
    graph = build_index(vectors, Index(kind="hnsw", ef=70, links=8), scene[1])
    assert graph.parameters["search"]["ef"] == 70


def test_a_rebuild_is_of_the_same_kind(scene: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    config = Index(kind="ivf_sq8", metric="cosine", recall_target=0.8)
    assert config_of(build_index(scene[0][:3000], config, scene[1]).parameters) == config


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "flat", "nprobe": 3}, r"\[index\] nprobe: kind 'flat'"),
        ({"kind": "ivf_pq", "ef": 3}, r"\[index\] ef: kind 'ivf_pq'"),
        ({"kind": "auto", "refine_factor": 2.0}, r"\[index\] refine_factor: kind 'auto'"),
        ({"kind": "hnsw", "device": "gpu"}, r"\[index\] kind 'hnsw' on a GPU: expected 'auto' or 'flat'"),
    ],
)
def test_a_setting_that_the_kind_does_not_have_is_refused(settings: Any, named: str) -> None:
    with pytest.raises(ReleaseError, match=named):
        build_index(np.eye(8, dtype=np.float32), Index(**settings))


def test_an_item_as_near_as_the_last_counts_as_found() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 50, axis=0)
    sample = Sample(vectors[:1], np.arange(10)[None, :], vectors, "inner_product")
    assert sample.recalls(np.arange(40, 50)[None, :])[10] == [1.0]
    assert sample.recalls(np.array([[0, 1, 2, 3, 4, 60, 61, -1, -1, -1]]))[10] == [0.5]


@pytest.mark.parametrize("spherical", [True, False])
def test_points_go_to_the_nearest_centroid_and_no_list_stays_empty(spherical: bool) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    vectors[:1500] = vectors[0]  # as many equal points leave centroids without any
    centres = centroids(vectors, 40, spherical=spherical)
    nearest_of = assign(vectors, centres, spherical=spherical)
    scores = vectors @ centres.T if spherical else -((vectors[:, None] - centres[None]) ** 2).sum(axis=2)
    best = scores.max(axis=1)
    np.testing.assert_allclose(scores[np.arange(3000), nearest_of], best, rtol=1e-4, atol=1e-4)
    assert np.isfinite(centres).all()
    assert len(np.unique(nearest_of)) >= 30
