"""An index returns true scores, what it may return, and -1 only at the end; what does not fit is refused by name."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.config import Index
from ensemble.index.build import build_index
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.faiss_file import Expected, check_file
from ensemble.serving.files.release import Release
from ensemble.serving.index.engines import load_index
from ensemble.serving.index.faiss_index import FaissIndex, read_index, to_gpu
from ensemble.serving.search.masks import ItemMask
from tests.hostile import CHANGES

KINDS = ("ivf_flat", "ivf_sq8", "ivf_pq", "hnsw")
METRICS = ("inner_product", "cosine", "l2")
ITEMS, DIM = 3000, 16


@lru_cache(maxsize=1)
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Items in clusters, of unequal length, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, DIM)).astype(np.float32)
    vectors = centres[rng.integers(0, 60, ITEMS)] + 0.3 * rng.normal(size=(ITEMS, DIM)).astype(np.float32)
    queries = centres[rng.integers(0, 60, 40)] + 0.3 * rng.normal(size=(40, DIM)).astype(np.float32)
    return vectors.astype(np.float32), queries.astype(np.float32)


@cache
def built(kind: Any, metric: Any) -> tuple[bytes, dict[str, Any]]:
    """Return the content and the parameters of an index of the scene."""
    vectors, queries = scene()
    content, parameters, _ = build_index(vectors, Index(kind=kind, metric=metric, recall_target=0.9), queries)
    assert content is not None
    return content, parameters


def index_of(kind: str, metric: str, **search: Any) -> FaissIndex:
    """Return an index of the scene, some of its search parameters changed."""
    content, parameters = built(kind, metric)
    index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    return FaissIndex(index, scene()[0], {**parameters, "search": {**parameters["search"], **search}})


def all_scores(metric: str) -> np.ndarray:
    """Return the scores of all items, float64 [queries, items]."""
    vectors, queries = (array.astype(np.float64) for array in scene())
    scores = queries @ vectors.T
    if metric == "l2":
        return scores - (vectors**2).sum(axis=1) / 2
    return scores / np.linalg.norm(vectors, axis=1) if metric == "cosine" else scores


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_looking_everywhere_equals_brute_force(kind: str, metric: str) -> None:
    index = index_of(kind, metric, nprobe=10**6, margin=None, ef=ITEMS, refine_factor=20.0)
    scores, rows = index.search(scene()[1], 50)
    expected = np.argsort(-all_scores(metric), axis=1, kind="stable")[:, :50]
    assert (rows == expected).mean() > (0.9 if kind == "hnsw" else 0.9999)
    best = np.take_along_axis(all_scores(metric), rows, axis=1)
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_only_what_the_mask_allows_comes_back_in_order_with_true_scores(kind: str, data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(METRICS))
    share = data.draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(ITEMS) < share
    fetch, rows_asked = data.draw(st.sampled_from([1, 7, 100, ITEMS])), data.draw(st.sampled_from([1, 5]))
    queries = scene()[1][:rows_asked]
    scores, rows = index_of(kind, metric).search(queries, fetch, None if share == 1.0 else ItemMask(mask))
    assert scores.shape == rows.shape == (rows_asked, fetch)
    for row, (score, items) in enumerate(zip(scores, rows, strict=True)):
        count = int((items >= 0).sum())
        assert (items[:count] >= 0).all()
        assert np.isneginf(score[count:]).all()
        assert len(set(items[:count].tolist())) == count
        assert share == 1.0 or mask[items[:count]].all()
        assert (np.diff(score[:count]) <= 0).all()
        np.testing.assert_allclose(score[:count], all_scores(metric)[row, items[:count]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_query_finds_the_same_alone_and_among_others(kind: str, metric: str) -> None:
    index, queries = index_of(kind, metric), scene()[1]
    together = index.search(queries, 30)[1]
    alone = np.concatenate([index.search(query[None], 30)[1] for query in queries])
    assert (together == alone).mean() > 0.999  # a list at the very edge of the margin may be in or out


def test_a_longer_query_looks_into_the_same_lists() -> None:
    index, queries = index_of("ivf_sq8", "inner_product"), scene()[1]
    for query in queries:
        short, long = (index.probes(np.ascontiguousarray(scaled[None]))[1] for scaled in (query, 100 * query))
        assert set(short[0].tolist()) == set(long[0].tolist())


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8"])
def test_inverted_lists_are_mapped_so_that_processes_share_them(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "items.faiss"
    place.write_bytes(built(kind, "inner_product")[0])
    place.chmod(0o444)
    index = read_index(place, kind)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(place))]
    assert mapped
    assert {line[1] for line in mapped} == {"r--s"}  # shared, and read-only
    own = FaissIndex(index, scene()[0], built(kind, "inner_product")[1])
    expected = index_of(kind, "inner_product")
    np.testing.assert_array_equal(own.search(scene()[1], 20)[1], expected.search(scene()[1], 20)[1])


def release_with(tmp_path: Path, kind: str, content: bytes | None, /, **changed: Any) -> Release:
    """Return a directory with what an index needs of a release."""
    for folder in ("index", "items"):
        (tmp_path / folder).mkdir()
    if content is not None:
        (tmp_path / "index/items.faiss").write_bytes(content)
    parameters = {**built(kind, "inner_product")[1], "pairing": "0" * 64, **changed}
    (tmp_path / "index/params.json").write_text(json.dumps(parameters))
    np.save(tmp_path / "items/vectors.npy", scene()[0])
    files = {path.relative_to(tmp_path).as_posix(): "" for path in tmp_path.rglob("*")}
    return Release(tmp_path, {"serving": {"threads": 1}, "files": files})


def test_a_batch_is_compared_by_matrix_products_whatever_faiss_holds_for_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS 1.14 and 1.15 wait for queries x dimensions of 128,000: a batch of 32 takes up to seven times as long."""
    monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 128_000)
    load_index(release_with(tmp_path, "ivf_sq8", built("ivf_sq8", "inner_product")[0]))
    assert faiss.cvar.distance_compute_blas_threshold == 20 * DIM


@pytest.mark.parametrize("cut", [5, 50_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_index_is_refused_with_the_file_and_the_reason(kind: str, cut: int, tmp_path: Path) -> None:
    """FAISS maps inverted lists past the end of a file that was cut, and reading there kills the process."""
    content = built(kind, "inner_product")[0]
    with pytest.raises(InvalidRelease, match=r"items\.faiss: .* bytes, .* expected; release it again"):
        load_index(release_with(tmp_path, kind, content[:-cut]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_a_changed_index_is_refused_or_searched_without_harm(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """FAISS takes sizes and links as they are: what our checks let pass must not lead it out of its memory."""
    place = tmp_path_factory.getbasetemp() / f"{kind}.faiss"
    content, parameters = built(kind, "inner_product")
    place.write_bytes(data.draw(st.sampled_from(CHANGES))(content, data.draw))
    try:
        check_file(place, Expected(kind, ITEMS, DIM, faiss.METRIC_INNER_PRODUCT))
    except InvalidRelease as error:
        reason = str(error)
    else:
        rows = FaissIndex(read_index(place, kind), scene()[0], parameters).search(scene()[1], 20)[1]
        reason = f"{place}: {rows.min()}" if -1 <= rows.min() <= rows.max() < ITEMS else "rows that are none"
    assert reason.startswith(str(place))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"items": 2999}, r"items\.faiss: .*items 3000, expected 2999"),
        ({"metric": "l2"}, r"items\.faiss: .*metric 0, expected 1"),
        ({"metric": "dot"}, r"params\.json: metric must be one of inner_product, cosine, l2, got 'dot'"),
        ({"kind": "annoy"}, r"params\.json: kind must be one of flat"),
    ],
)
def test_an_index_that_does_not_fit_its_release_is_refused(changed: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRelease, match=reason):
        load_index(release_with(tmp_path, "ivf_flat", built("ivf_flat", "inner_product")[0], **changed))


def test_a_flat_release_needs_no_index_file(tmp_path: Path) -> None:
    assert load_index(release_with(tmp_path, "ivf_flat", None, kind="flat")) is None


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this FAISS has GPU support")
def test_an_index_for_a_gpu_says_what_is_missing() -> None:
    with pytest.raises(InvalidRelease, match=r'released for a GPU.*device = "cpu"'):
        to_gpu(None, Path("params.json"))
