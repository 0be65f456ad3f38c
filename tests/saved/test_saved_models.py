"""What `retrieval export` writes, asked by a Python that has TensorFlow and nothing of ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import pytest

from ensemble.onnx_graph.builder import Builder
from ensemble.onnx_graph.columns import RawColumns
from ensemble.onnx_graph.export import write_onnx
from ensemble.release.congruence import raw_columns
from ensemble.release.raw_feeds import Unsupported, raw_feeds
from ensemble.savedmodel.export import write_saved_models
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Answer, Retriever
from ensemble.serving.search.search import no_exclusions
from ensemble.serving.triton.tensors import NO_ITEM, NO_SCORE, Request
from tests.exported import USERS, Exported
from tests.synthetic import make_release, make_run
from workflows.errors import ReleaseError

TOP_K = 12
PLAIN = Path(__file__).with_name("plain.py")


class Asked:
    """Questions, what the release answers, and what the SavedModels answer."""

    def __init__(self, exported: Exported, path: Path) -> None:
        self.retriever = Retriever(exported.source.release)
        self.expected: dict[str, Answer] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self._questions: dict[str, np.ndarray] = {}
        rows = exported.tables.interactions.iloc[:60].merge(exported.tables.users, on="user_id")
        changed = rows.assign(country="nowhere", age=99.5, visited=[["日本", "?", "é", "de"]] * len(rows))
        changed = changed.assign(likes=[["sea"]] * len(rows), how_much=[[0.5]] * len(rows), timestamp=1_015_000_000)
        nulls = rows.assign(user_id="nobody", country=None, age=np.nan, visited=None, likes=None, how_much=None)
        for case, queries in {"known": rows, "changed": changed, "nulls": nulls.assign(taste=None)}.items():
            self._ask(case, queries)
        np.savez(path / "questions.npz", **self._questions)
        packages = only_tensorflow(path / "packages")
        command = [sys.executable, "-I", "-S", str(PLAIN), packages, exported.path, path / "questions.npz"]
        done = subprocess.run([*map(str, command), str(path / "answers.npz")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.answers = dict(np.load(path / "answers.npz"))

    def _ask(self, case: str, queries: pd.DataFrame) -> None:
        columns = raw_columns(queries, self.retriever.release)
        users = self.retriever.users.rows_of(columns["user_id"].values)
        features = self.retriever.features.compute(columns, users)
        self.vectors[case] = self.retriever.tower.encode(features)
        raw, seen = raw_feeds(self.retriever, columns, users), np.zeros(len(users), dtype=bool)
        for excluding in (False, True):
            request = Request(columns, np.full(len(users), TOP_K), seen | (not excluding), no_exclusions())
            self.expected[f"{case}{excluding}"] = self.retriever.answer(request)
        more = {"exclude_item_ids": self._seen(users)}
        self._add(case, "query_tower/encode", features)
        wider = {
            name: np.pad(array, ((0, 0), (0, 4))) if array.shape[1:] > (3,) else array
            for name, array in features.items()
        }
        self._add(f"{case}-wider", "query_tower/encode", wider)
        for name, feeds in (("recommend", features), ("recommend_raw", raw)):
            self._add(case, f"recommend/{name}", feeds)
            self._add(case, f"recommend/{name}_excluding", {**feeds, **more})

    def _add(self, case: str, where: str, feeds: dict[str, np.ndarray]) -> None:
        for name, values in feeds.items():
            self._questions[f"{case}/{where}/{name}"] = values.astype(str) if values.dtype == object else values

    def _seen(self, users: np.ndarray) -> np.ndarray:
        rows, items = self.retriever.history.seen(users, np.zeros(len(users), dtype=bool))
        padded = np.full((len(users), max(np.bincount(rows, minlength=1))), NO_ITEM["INT64"])
        for row in range(len(users)):
            mine = self.retriever.item_ids[items[rows == row]]
            padded[row, : len(mine)] = mine
        return padded


def only_tensorflow(directory: Path) -> Path:
    """Return a directory of links to TensorFlow and what it requires, and to nothing else."""
    directory.mkdir()
    pending, seen = ["tensorflow-cpu"], set()
    while pending:
        name = pending.pop()
        try:
            held = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another platform
            continue
        if name in seen:
            continue
        seen.add(name)
        required = [line for line in held.requires or [] if "extra ==" not in line]
        pending += [re.match(r"[\w.-]+", line).group().lower() for line in required]  # type: ignore[union-attr]
        for top in {file.parts[0] for file in held.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link = directory / top
            if not link.exists():
                link.symlink_to(held.locate_file(top))
    return directory


@pytest.fixture(scope="module")
def asked(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(exported, tmp_path_factory.mktemp("asked"))


@pytest.mark.parametrize("case", ["known", "changed", "nulls"])
def test_plain_tensorflow_encodes_and_recommends_as_the_release(asked: Asked, case: str) -> None:
    for encoded in (case, f"{case}-wider"):
        np.testing.assert_allclose(asked.answers[f"{encoded}/encode/vector"], asked.vectors[case], atol=1e-5)
    for signature in ("recommend", "recommend_raw", "recommend_excluding", "recommend_raw_excluding"):
        expected = asked.expected[f"{case}{signature.endswith('excluding')}"]
        item_id, score, count = (asked.answers[f"{case}/{signature}/{name}"] for name in ("item_id", "score", "count"))
        np.testing.assert_allclose(score, np.maximum(expected.score, NO_SCORE), atol=1e-5, err_msg=signature)
        np.testing.assert_array_equal(count, expected.count, err_msg=signature)
        real = np.arange(TOP_K) < count[:, None]
        np.testing.assert_array_equal(item_id[real], expected.item_id[real], err_msg=signature)
        assert (item_id[~real] == NO_ITEM["INT64"]).all()
    assert case == "nulls" or (asked.expected[f"{case}True"].item_id != asked.expected[f"{case}False"].item_id).any()


def test_the_manifest_says_what_it_is_and_what_the_signatures_take(exported: Exported) -> None:
    stated, release = exported.manifest, exported.source.release.manifest
    assert (stated["pairing"], stated["release"]) == (release["pairing"], release["release"])
    assert (stated["counts"]["items"], stated["top_k"], stated["raw_left_out"]) == (release["counts"]["items"], 12, "")
    signatures = {name: set(signature) for name, signature in stated["signatures"].items()}
    names = {"recommend", "recommend_excluding", "recommend_raw", "recommend_raw_excluding"}
    assert signatures == {"query_tower/1": {"encode"}, "recommend/1": names}
    inputs = stated["signatures"]["query_tower/1"]["encode"]["inputs"]
    assert {"history", "history_age", "likes_weight"} <= set(inputs)
    assert inputs["taste"] == {"dtype": "float32", "shape": [None, 3]}
    held = {path.relative_to(exported.path).as_posix() for path in exported.path.rglob("*") if path.is_file()}
    assert held == set(stated["files"]) | {"manifest.json"}


def test_an_export_replaces_an_export_and_nothing_else(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ReleaseError, match="something else than an earlier export"):
        write_saved_models(exported.source, TOP_K, tmp_path, str)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_an_export_that_would_answer_otherwise_is_not_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight: Any = next(var for var in exported.source.model.query_encoder.trainable_variables if "dense" in var.name)
    before = weight.numpy()
    weight.assign(before + 0.1)
    with pytest.raises(ReleaseError, match="'encode' answers is not the release's"):
        write_saved_models(exported.source, TOP_K, tmp_path / "out", str)
    weight.assign(before)
    assert not list(tmp_path.iterdir())


def test_one_onnx_graph_answers_every_user_and_every_kind_of_feature_as_the_release(
    exported: Exported, tmp_path: Path
) -> None:
    path = tmp_path / "recommend.onnx"
    written = write_onnx(exported.source.release, TOP_K, path, str)
    assert (written.users, written.swapped, written.top_k) == (USERS, 0, TOP_K)
    assert {opset.domain for opset in onnx.load(str(path)).opset_import} == {"", "ai.onnx.ml"}  # no operator of ours
    retriever, session = Retriever(exported.source.release), ort.InferenceSession(str(path))
    known = exported.tables.interactions.iloc[:60].merge(exported.tables.users, on="user_id")
    changed = known.assign(country="nowhere", age=99.5, visited=[["日本", "?", "é", "de"]] * len(known))
    changed = changed.assign(likes=[["sea"]] * len(known), how_much=[[0.5]] * len(known), timestamp=1_015_000_000)
    nulls = known.assign(user_id="nobody", country=None, age=np.nan, visited=None, likes=None, how_much=None)
    for queries in (known, changed, nulls):
        columns = raw_columns(queries, retriever.release)
        rows = retriever.users.rows_of(columns["user_id"].values)
        out = np.repeat(np.arange(len(rows)), 2), np.tile([3_000_000_007, 77], len(rows))  # an item, and none
        request = Request(columns, np.full(len(rows), TOP_K), np.zeros(len(rows), bool), out)
        expected = retriever.answer(request)
        feeds = {**raw_feeds(retriever, columns, rows), "exclude_item_ids": out[1].reshape(-1, 2)}
        ids, scores, counts = session.run(["item_id", "score", "count"], feeds)
        assert counts.tolist() == expected.count.tolist()
        real = np.arange(TOP_K) < counts[:, None]
        assert ids[real].tolist() == expected.item_id[real].tolist()
        np.testing.assert_allclose(scores[real], expected.score[real], rtol=0, atol=1e-5)


def test_what_one_graph_cannot_express_is_refused_by_name(exported: Exported, tmp_path: Path) -> None:
    release = exported.source.release
    place = tmp_path / "release"
    shutil.copytree(release.path, place)
    document = json.loads((place / "query/transform.json").read_text(encoding="utf-8"))
    step = next(entry for entry in document["steps"] if entry["output"] == "country")
    step["hash_buckets"] = 4
    (place / "query/transform.json").write_text(json.dumps(document), encoding="utf-8")
    columns = RawColumns(Builder(), place / "query", Retriever(release).catalogue.rows.ids)
    raw = columns.take()
    with pytest.raises(Unsupported, match="feature 'country': ONNX does not have the release's hash function"):
        columns.features(raw)
    ranking = make_release(make_run(tmp_path / "ranking"), ranks=True)
    with pytest.raises(ReleaseError, match="the release ranks, which one graph cannot express"):
        write_onnx(Release.open(ranking), TOP_K, tmp_path / "recommend.onnx", str)
    with pytest.raises(ReleaseError, match=r"--out .*: --format onnx writes one file; give it a name that ends in"):
        write_onnx(release, TOP_K, tmp_path, str)


def test_a_graph_that_would_answer_otherwise_is_not_kept(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.onnx_graph.kinds.NULL", 2)  # as if a null were a value that training never saw
    with pytest.raises(ReleaseError, match="no graph was kept: it answers user u"):
        write_onnx(exported.source.release, TOP_K, tmp_path / "recommend.onnx", str)
    assert not [*tmp_path.iterdir()]
