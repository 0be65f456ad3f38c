"""Engines behind the index interface: their candidates give what exact search gives, filters and all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import compact, derive
from ensemble.catalogue.publish import publish, writing
from ensemble.config import Index
from ensemble.index import milvus
from ensemble.index.build import build_index, config_of
from ensemble.index.building import sample_of
from ensemble.index.tuning import AT
from ensemble.serving.errors import InvalidRelease, InvalidRequest, Unavailable
from ensemble.serving.files.release import Release
from ensemble.serving.index.engines import load_index
from ensemble.serving.index.milvus_index import SECONDS, TOKEN, URI, MilvusIndex, expression_of
from ensemble.serving.index.scann_index import ScannIndex
from ensemble.serving.retriever import ItemAnswers
from ensemble.serving.search.masks import ItemMask
from ensemble.serving.search.planner import Planner
from ensemble.serving.search.search import ItemSearch, no_exclusions
from ensemble.serving.triton.tensors import Request
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import make_release
from workflows.errors import ReleaseError

needs_scann = pytest.mark.skipif(importlib.util.find_spec("scann") is None, reason="the extra engines is not here")
METRICS = ("inner_product", "cosine", "l2")
ITEMS, DIM = 3000, 16


def near(rows: int, seed: int) -> np.ndarray:
    """Return vectors of unequal length around the same sixty centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(60, DIM))
    return (centres[rng.integers(0, 60, rows)] + 0.3 * rng.normal(size=(rows, DIM))).astype(np.float32)


def release_with(path: Path, parameters: dict[str, Any], files: dict[str, bytes], vectors: np.ndarray) -> Release:
    """Return a directory with what an index needs of a release."""
    stated = json.dumps({"pairing": "0" * 32, **parameters}).encode()
    for name, content in {"index/params.json": stated, **files}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "items").mkdir()
    np.save(path / "items/vectors.npy", vectors)
    listed = {file.relative_to(path).as_posix(): "" for file in path.rglob("*")}
    return Release(path, {"serving": {"threads": 1}, "files": listed})


@needs_scann
@pytest.mark.parametrize("metric", METRICS)
def test_scann_finds_what_the_recipe_asks_for_and_answers_filters_exactly(metric: Any, tmp_path: Path) -> None:
    vectors, queries = near(ITEMS, 1), near(40, 2)
    built = build_index(vectors, Index(kind="scann", metric=metric, recall_target=0.9), near(300, 3))
    assert built.parameters["target_met"]
    assert config_of(built.parameters).kind == "scann"
    index = load_index(release_with(tmp_path, built.parameters, dict(built.files), vectors))
    assert isinstance(index, ScannIndex)
    sample = sample_of(vectors, queries, metric)
    assert min(recall.mean() for recall in sample.recalls(index.search(sample.queries, AT[-1])[1]).values()) >= 0.85
    mask = ItemMask(np.random.default_rng(4).random(ITEMS) < 0.7)
    with pytest.raises(ValueError, match="ScaNN knows no filters"):
        index.candidates(queries, 10, mask)
    k, exact = np.full(len(queries), 25), ItemSearch(vectors, metric=metric)
    rows = np.arange(len(queries)).repeat(3)
    nothing = no_exclusions()
    left_out = exact.nearest(queries, np.full(len(queries), 3), *nothing).item_index.ravel()  # the best of each
    search = ItemSearch(vectors, index, metric=metric)
    answer, true = search.nearest(queries, k, rows, left_out), exact.nearest(queries, k, rows, left_out)
    assert (answer.item_index == true.item_index).mean() > 0.8
    assert not np.isin(answer.item_index + np.arange(40)[:, None] * ITEMS, rows * ITEMS + left_out).any()
    assert (answer.count == 25).all()
    assert Planner(vectors, index).plan(queries, 25, mask).way in ("scan", "gather")


@needs_scann
def test_a_scann_index_that_does_not_fit_its_release_is_refused(tmp_path: Path) -> None:
    vectors = near(1500, 1)
    built = build_index(vectors, Index(kind="scann", recall_target=0.5), near(50, 3))
    tokens = "index/scann/datapoint_to_token.npy"
    cut = dict(built.files)
    del cut["index/scann/ah_codebook.pb"]
    for number, (files, changed, reason) in enumerate(
        [
            (cut, {}, r"ah_codebook\.pb: missing"),
            (built.files, {"items": 1499}, "1500 and 1500 items, expected 1499"),
            (built.files, {"leaves": 2, "search": {"leaves": 1, "refine_factor": 2.0}}, "names partitions beyond 2"),
            ({**built.files, tokens: built.files[tokens][:60]}, {}, "datapoint_to_token"),
            (built.files, {"search": {"leaves": 0, "refine_factor": 2.0}}, "leaves must be an integer from 1"),
        ]
    ):
        release = release_with(tmp_path / str(number), {**built.parameters, **changed}, dict(files), vectors)
        with pytest.raises(InvalidRelease, match=reason):
            load_index(release)
    with pytest.raises(ReleaseError, match="300 items, expected at least 1000"):
        build_index(vectors[:300], Index(kind="scann"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Milvus in a file, named as serving is told of it."""
    pytest.importorskip("pymilvus")
    patch, path = pytest.MonkeyPatch(), str(tmp_path_factory.mktemp("milvus") / "items.db")
    patch.setenv(URI, path)
    yield path
    patch.undo()
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(path)


@pytest.fixture(scope="module", params=["int64", "string"])
def stored(request: pytest.FixtureRequest, place: str, tmp_path_factory: pytest.TempPathFactory) -> Items:
    """A run whose release is searched by Milvus. Do not write to it."""
    items = make_live_run(tmp_path_factory.mktemp("stored") / "run", request.param)
    make_release(items.run, Index(kind="milvus", collection=f"films_{request.param}"))
    return items


def answers_of(release: Release, delta: Path | None = None) -> ItemAnswers:
    """Return what serves the last step."""
    answers = ItemAnswers(release)
    if delta is not None:
        answers.follow(delta)
    return answers


def asked(answers: ItemAnswers, queries: np.ndarray, filters: list[str] | None, k: int = 30) -> tuple[list[Any], Any]:
    """Return the ids and the scores that queries of strangers are answered with."""
    rows = len(queries)
    request = Request({}, np.full(rows, k), np.ones(rows, dtype=bool), no_exclusions(), filters=filters)
    answer = answers.nearest(queries, np.full(rows, -1), request)
    return answer.item_id.tolist(), answer.score


def exactly(answers: ItemAnswers) -> ItemAnswers:
    """Return the same, with every item compared here."""
    catalogue = answers.catalogue
    search = ItemSearch(catalogue.rows.vectors, None, metric="inner_product", live=catalogue.rows.live)
    copied = ItemAnswers.__new__(ItemAnswers)
    copied.__dict__.update(answers.__dict__)
    copied.catalogue = type(catalogue)(catalogue.rows, catalogue.trained_ids, search, catalogue._room)
    return copied


FILTERS = [
    {"tags": {"genres": {"any": ["comedy", "Akció"]}}},
    {"tags": {"genres": {"all": ["comedy", "drama"]}}, "ranges": {"year": {"max": 1996}}},
    {"tags": {"genres": {"none": ["noir"]}}, "ranges": {"year": {"min": 1993, "max": 1998.5}}},
    {"ranges": {"weight": {"min": -0.5}}},
    {"deny": "ids", "tags": {"genres": {"any": ["drama"]}}},
    {"allow": "ids", "ranges": {"year": {"min": 1990}}},
    {"deny": "ids", "crowding": {"attribute": "year", "limit": 2}},
    {"tags": {"genres": {"any": ["drama"]}}, "min_score": 0.5},
]


def test_milvus_answers_as_exact_search_does_with_every_filter(stored: Items) -> None:
    answers = answers_of(Release.open(stored.run.path / "release"))
    index = answers.catalogue.search._index
    assert isinstance(index, MilvusIndex)
    assert index.is_exact
    queries = np.random.default_rng(8).normal(size=(len(FILTERS), stored.run.vectors.shape[1])).astype(np.float32)
    ids = stored.run.items["item_id"].tolist()[::4]
    texts = [json.dumps({key: ids if value == "ids" else value for key, value in spec.items()}) for spec in FILTERS]
    plain = exactly(answers)
    for filters, k in ((None, 30), (texts, 30), (texts, 3)):
        actual, true = asked(answers, queries, filters, k), asked(plain, queries, filters, k)
        assert actual[0] == true[0]
        np.testing.assert_array_equal(actual[1], true[1])
    expressed = [answers.catalogue.filters.of_rows([text])[0].mask for text in texts]
    ways = [answers.search.plan(queries[:1], 3, mask).way for mask in expressed if mask is not None]
    assert ways.count("index") >= 4  # the others allow so few that they are compared here


def test_an_exclusion_is_made_up_for_and_a_strange_answer_of_milvus_is_left_out(stored: Items) -> None:
    """What Milvus says of rows that the release does not have, or that a filter does not allow, changes no answer."""
    release = Release.open(stored.run.path / "release")
    index = answers_of(release).catalogue.search._index
    assert isinstance(index, MilvusIndex)

    class Strange:
        def search(self, *_: Any, data: list[Any], limit: int, **__: Any) -> list[Any]:
            return [[{"row": row} for row in (10**6, *range(limit - 1))] for _ in data]

    index._client = Strange()
    mask = ItemMask(np.arange(len(stored.run.items)) % 3 > 0)
    mask.wanted = {}
    search = ItemSearch(stored.run.vectors, index)
    answer = search.nearest(stored.run.vectors[:2], np.array([20, 20]), np.array([0]), np.array([7]))
    assert answer.item_index.max() < len(stored.run.items)
    assert 7 not in answer.item_index[0]
    from ensemble.serving.search.masks import Allowed

    allowed = Allowed([mask], np.zeros(2, dtype=np.int64))
    answer = search.nearest(stored.run.vectors[:2], np.array([20, 20]), *no_exclusions(), allowed)
    assert mask.bits[answer.item_index[answer.item_index >= 0]].all()


def test_added_updated_and_removed_items_are_so_in_milvus(stored: Items, tmp_path: Path) -> None:
    release, delta = Release.open(stored.run.path / "release"), tmp_path / "live"
    delta.mkdir()
    ids = stored.run.items["item_id"].tolist()
    serving = answers_of(release, delta)
    row = {"item_id": new_id(ids[0], 1), "title": "új", "weight": 4.0, "genres": ["noir"], "year": 2001}
    with writing(release, delta) as items:
        publish(items, items.adding(write_items(tmp_path / "new.jsonl", [row])))
    with writing(release, delta) as items:
        publish(items, items.updating(write_items(tmp_path / "up.jsonl", [{"item_id": ids[5], "weight": -3.0}])))
    with writing(release, delta) as items:
        publish(items, items.removing([str(item) for item in [ids[5], *ids[10:90]]]))
    assert serving.refresh()
    index = serving.catalogue.search._index
    assert isinstance(index, MilvusIndex)
    assert index.items == len(ids) + 2  # nothing is left to compare here
    counted = index._client.query(index.collection, filter="", output_fields=["count(*)"])[0]["count(*)"]
    assert counted == len(ids) + 1  # the updated one's second row is gone; what the release began with stays
    other_delta = tmp_path / "other"
    other_delta.mkdir()
    with writing(release, other_delta) as items:
        publish(items, items.adding(write_items(tmp_path / "other.jsonl", [{**row, "weight": -4.0}])))
    elsewhere = answers_of(release, other_delta)  # a directory of its own, whose rows have the same numbers
    assert elsewhere.catalogue.search._index.items == len(ids)  # type: ignore[union-attr]
    queries = np.random.default_rng(9).normal(size=(6, stored.run.vectors.shape[1])).astype(np.float32)
    queries[0] = stored.direction  # towards the new one
    for filters in (None, [json.dumps({"tags": {"genres": {"any": ["noir", "drama"]}}})] * 6):
        actual, true = asked(serving, queries, filters), asked(exactly(serving), queries, filters)
        assert actual[0] == true[0]
        np.testing.assert_array_equal(actual[1], true[1])
    assert asked(serving, queries, None, 3)[0][0][0] == row["item_id"]
    # A server that starts now, and one of the folded release, whose collection is its own, answer alike.
    started = answers_of(release, delta)
    for answering in (elsewhere, answers_of(release)):
        assert asked(answering, queries, None)[0] == asked(exactly(answering), queries, None)[0]
    whole = compact(LiveItems(release, delta), tmp_path / "whole")
    for answering in (started, answers_of(whole)):
        assert asked(answering, queries, None)[0] == asked(serving, queries, None)[0]
    assert answers_of(whole).catalogue.search._index.collection != index.collection  # type: ignore[union-attr]


def test_a_derived_release_compares_what_the_collection_of_its_origin_lacks(stored: Items, tmp_path: Path) -> None:
    release = Release.open(stored.run.path / "release")
    ids = stored.run.items["item_id"].tolist()
    row = {"item_id": new_id(ids[0], 2), "title": "b", "weight": 5.0, "genres": [], "year": None}
    done = derive(release, LiveItems(release).adding(write_items(tmp_path / "new.jsonl", [row])), tmp_path / "derived")
    answers = answers_of(done.release)
    assert answers.catalogue.search._index.items == len(ids)  # type: ignore[union-attr]
    queries = np.stack([stored.direction, -stored.direction])
    assert asked(answers, queries, None)[0] == asked(exactly(answers), queries, None)[0]


@pytest.mark.parametrize("structure", ["hnsw", "ivf_flat"])
def test_an_approximate_collection_finds_what_it_should(structure: Any, place: str, tmp_path: Path) -> None:
    vectors = near(ITEMS, 1)
    (tmp_path / "items").mkdir()
    np.save(tmp_path / "items/vectors.npy", vectors)
    np.save(tmp_path / "items/ids.npy", np.arange(ITEMS))
    (tmp_path / "items/attributes.json").write_text(
        json.dumps({"format": 1, "items": ITEMS, "attributes": [], "left_out": {}})
    )
    names = {path.relative_to(tmp_path).as_posix(): "" for path in tmp_path.rglob("*")}
    release = Release(tmp_path, {"files": names, "id_dtype": {"item_id": "int64"}, "pairing": "0" * 64})
    config = Index(kind="milvus", structure=structure, collection=structure, metric="cosine")
    parameters = build_index(vectors, config, draft=lambda: release).parameters
    assert config_of(parameters) == config
    index = MilvusIndex(milvus._client(), vectors, parameters)
    sample = sample_of(vectors, near(40, 2), "cosine")
    assert sample.recalls(index.candidates(sample.queries, AT[-1]))[10].mean() > 0.9


def test_where_milvus_is_and_what_opens_it_stands_in_no_release(stored: Items) -> None:
    path = stored.run.path / "release"
    import os

    secret = os.environ[URI].encode()
    assert not [file for file in path.rglob("*") if file.is_file() and secret in file.read_bytes()]
    with pytest.raises(ValueError, match="holds a name or a password"):
        Index(kind="milvus", uri="https://root:secret@127.0.0.1:19530")


def test_a_release_without_its_milvus_is_refused_with_what_to_do(
    stored: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release.open(stored.run.path / "release")
    parameters = json.loads((release.path / "index/params.json").read_text())
    client = milvus._client()
    changed = dict(parameters, collection_pairing="1" * 64)
    from ensemble.serving.index.milvus_index import check_collection

    with pytest.raises(InvalidRelease, match="its vectors are not those of this release"):
        check_collection(client, changed, Path("params.json"), stored.run.vectors.shape[1])
    with pytest.raises(InvalidRelease, match="Milvus has no collection gone"):
        check_collection(client, dict(parameters, collection="gone"), Path("params.json"), 16)
    monkeypatch.delenv(URI)
    with pytest.raises(InvalidRelease, match=rf"{URI} is not set; .*{TOKEN}"):
        load_index(release)


def test_a_milvus_that_stops_answering_is_unavailable_and_not_answered_for(stored: Items) -> None:
    index = answers_of(Release.open(stored.run.path / "release")).catalogue.search._index
    assert isinstance(index, MilvusIndex)

    class Gone:
        def search(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError("connection refused")

    index._client = Gone()
    with pytest.raises(
        Unavailable, match=r"Milvus did not answer for collection .*: ConnectionError: connection refused"
    ):
        ItemSearch(stored.run.vectors, index).nearest(stored.run.vectors[:1], np.array([5]), *no_exclusions())


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan", "inf"])
def test_seconds_that_are_none_are_refused_when_the_release_is_opened(
    stored: Items, seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, seconds)
    with pytest.raises(InvalidRelease, match=f"{SECONDS} is '{seconds}', expected how many seconds"):
        load_index(Release.open(stored.run.path / "release"))


def test_what_an_engine_cannot_express_is_compared_exactly_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"genres": "tags_genres"}
    expressible = {"tags": {"genres": {"any": ['say "x" \\ é']}}, "deny": [1, 2]}
    assert expression_of(expressible, fields) == (
        '(item_id not in [1, 2]) and (array_contains_any(tags_genres, ["say \\"x\\" \\\\ é"]))'
    )
    for inexpressible in ({"tags": {"genres": {"any": ["line\nbreak"]}}}, {"ranges": {"year": {"min": 1}}}):
        with pytest.raises(ValueError, match=r"control character|does not hold 'year'"):
            expression_of(inexpressible, fields)
    stated = {"kind": "milvus", "collection": "c", "metric": "inner_product", "items": 100, "fields": fields}
    vectors = np.zeros((100, 4), dtype=np.float32)
    index, mask = MilvusIndex(None, vectors, {**stated, "search": {}}), ItemMask(np.ones(100, dtype=bool))
    mask.wanted = {"ranges": {"year": {"min": 1}}}
    assert Planner(vectors, index).plan(vectors[:1], 5, mask).way in ("scan", "gather")
    with pytest.raises(ValueError, match="does not express this filter"):
        index.candidates(vectors[:1], 5, mask)
    monkeypatch.setattr("ensemble.serving.index.costs.MOST_COMPARED", 50)
    with pytest.raises(InvalidRequest, match="column 'filter': milvus cannot express it, and it allows 100 items"):
        Planner(vectors, index).plan(vectors[:1], 5, mask)
