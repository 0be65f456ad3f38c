"""Vectors that leave a release are its vectors: other tools find with them what it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ensemble.batch.bulk import Documents, index_body, managed_index
from ensemble.batch.everybody import Asking, Everybody
from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import derive
from ensemble.serving.files.release import Release
from ensemble.serving.search.attributes import Numbers
from retrieval.cli import app
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import Run, make_release
from workflows.errors import DataError

TOP_K = 25
FORMATS = ("parquet", "npy", "jsonl")


def export(release: Path, side: str, format_: str, out: Path, *more: str) -> Path:
    """Run the command."""
    arguments = ["embeddings", release, "--side", side, "--format", format_, "--out", out, *more]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return out


def read(path: Path, format_: str) -> tuple[list[str], np.ndarray]:
    """Return the ids, as text, and the vectors of a file."""
    if format_ == "npy":
        return [str(value) for value in np.load(path / "ids.npy").tolist()], np.load(path / "embeddings.npy")
    if format_ == "parquet":
        table = pq.read_table(path)
        vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
        return [str(value) for value in table["id"].to_pylist()], vectors
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["id"] for row in rows], np.array([row["embedding"] for row in rows], dtype=np.float32)


@pytest.mark.parametrize("format_", FORMATS)
def test_vectors_read_back_find_what_the_release_answers(run: Run, release: Path, tmp_path: Path, format_: str) -> None:
    users, queries = read(export(release, "queries", format_, tmp_path / "users"), format_)
    items, vectors = read(export(release, "items", format_, tmp_path / "items"), format_)
    assert users == [str(user) for user in run.users["user_id"]]
    assert items == [str(item) for item in run.items["item_id"]]
    everybody = Everybody.load(release)
    answer = everybody.answer(everybody.user_ids(), Asking(top_k=TOP_K, include_seen=True))
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    place = {item: row for row, item in enumerate(items)}
    for row, ids in enumerate(answer.item_id):
        rows = [place[str(item)] for item in ids]
        assert len(set(rows)) == TOP_K
        # The best by the vectors that were read; of equal ones, either will do.
        np.testing.assert_allclose(scores[row, rows], np.sort(scores[row])[::-1][:TOP_K], rtol=0, atol=1e-6)
        np.testing.assert_allclose(answer.score[row], scores[row, rows], rtol=0, atol=1e-6)


@pytest.fixture(scope="module", params=["int64", "string"])
def changed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Items, Release, list[Any]]:
    """A live run, a release derived from its own by removing items and then adding one, and the ids that are left."""
    path = tmp_path_factory.mktemp("changed")
    items = make_live_run(path / "run", request.param)
    make_release(items.run)
    ids = items.run.items["item_id"].tolist()
    removed, added = ids[3:8], new_id(ids[0], 1)
    live = LiveItems(Release.open(items.run.path / "release"))
    without = derive(live.release, live.removing([str(item) for item in removed]), path / "without").release
    row = {"item_id": added, "title": "new", "weight": 0.25, "genres": ["noir"], "year": None}
    change = LiveItems(without).adding(write_items(path / "new.jsonl", [row]))
    left = [item for item in ids if item not in removed] + [added]
    return items, derive(without, change, path / "derived").release, left


def test_items_that_came_and_went_do_so_in_the_file(changed: tuple[Items, Release, list[Any]], tmp_path: Path) -> None:
    items, release, left = changed
    ids, vectors = read(export(release.path, "items", "jsonl", tmp_path / "items.jsonl"), "jsonl")
    assert sorted(ids) == sorted(map(str, left))
    state = {**items.rows(), left[-1]: {"weight": 0.25}}
    expected = items.vectors({item: state[item] for item in left})
    order = [ids.index(str(item)) for item in left]
    np.testing.assert_allclose(vectors[order], expected, rtol=0, atol=1e-6)


def test_a_line_says_what_its_item_is_filtered_by(release: Path, run: Run, tmp_path: Path) -> None:
    path = export(release, "items", "jsonl", tmp_path / "items.jsonl", "--crowding", "year")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = zip(lines, *(run.items[name] for name in ("title", "genres", "year")), strict=True)
    for line, title, genres, year in rows:
        tags = {restrict["namespace"]: restrict["allow"] for restrict in line["restricts"]}
        assert tags.pop("title") == [title]
        assert tags == ({"genres": sorted(genres)} if genres else {})
        known = year == year
        assert line.get("numeric_restricts", []) == ([{"namespace": "year", "value_int": int(year)}] if known else [])
        assert line.get("crowding_tag") == (str(int(year)) if known else None)


def test_two_crowding_tags_are_refused_and_leave_no_file(release: Path, tmp_path: Path) -> None:
    arguments = ["embeddings", release, "--side", "items", "--format", "jsonl", "--crowding", "genres"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "items.jsonl")])
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


SPACES = {
    "elasticsearch": {"inner_product": "max_inner_product", "cosine": "cosine", "l2": "l2_norm"},
    "opensearch": {"inner_product": "innerproduct", "cosine": "cosinesimil", "l2": "l2"},
}


@pytest.mark.parametrize("format_", SPACES)
def test_every_document_fits_the_strict_mapping_beside_it_and_holds_the_vectors(
    run: Run, release: Path, tmp_path: Path, format_: str
) -> None:
    path = export(release, "items", format_, tmp_path / "items.ndjson")
    body = json.loads((tmp_path / "items.index.json").read_text(encoding="utf-8"))
    fields = body["mappings"]["properties"]
    assert body["mappings"]["dynamic"] == "strict"
    assert (fields["genres"]["type"], fields["year"]["type"]) == ("keyword", "long")
    content = path.read_bytes()
    assert content.endswith(b"\n")  # or the bulk interface refuses the last line
    lines = [json.loads(line) for line in content.decode().splitlines()]
    actions, documents = lines[::2], lines[1::2]
    assert [action["index"]["_id"] for action in actions] == [str(item) for item in run.items["item_id"]]
    assert [document["item_id"] for document in documents] == run.items["item_id"].tolist()
    np.testing.assert_array_equal(np.array([doc["embedding"] for doc in documents], dtype=np.float32), run.vectors)
    kinds = {"keyword": (str, list), "long": int, "double": (int, float)}
    for document, genres in zip(documents, run.items["genres"], strict=True):
        assert set(document) <= set(fields)
        assert document.get("genres", []) == sorted(genres)
        assert all(
            isinstance(value, kinds[fields[name]["type"]]) for name, value in document.items() if name != "embedding"
        )


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
@pytest.mark.parametrize("engine", SPACES)
def test_the_index_beside_a_bulk_file_orders_items_as_the_release_does(engine: str, metric: str) -> None:
    body = index_body(engine, Documents({}), 64, metric, "string")
    vector = body["mappings"]["properties"]["embedding"]
    similarity = vector["similarity"] if engine == "elasticsearch" else vector["method"]["space_type"]
    assert similarity == SPACES[engine][metric]
    assert vector.get("dims", vector.get("dimension")) == 64


def test_the_metadata_of_managed_vector_search_fits_its_file(release: Path, tmp_path: Path) -> None:
    path = export(release, "items", "jsonl", tmp_path / "items.jsonl")
    config = json.loads((tmp_path / "items.index.json").read_text(encoding="utf-8"))["config"]
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert config["dimensions"] == len(first["embedding"])
    assert config["distanceMeasureType"] == "DOT_PRODUCT_DISTANCE"
    assert managed_index(10, 4, "cosine")["config"]["featureNormType"] == "UNIT_L2_NORM"
    assert managed_index(10, 4, "l2")["config"]["distanceMeasureType"] == "SQUARED_L2_DISTANCE"


def test_a_name_that_a_search_engine_would_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"attribute 'a\.b': no name for a field"):
        Documents({"a.b": Numbers(np.zeros(3))})


def test_queries_are_no_documents(release: Path, tmp_path: Path) -> None:
    arguments = [
        "embeddings",
        str(release),
        "--side",
        "queries",
        "--format",
        "opensearch",
        "--out",
        str(tmp_path / "x"),
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []
