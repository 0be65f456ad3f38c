"""A release that ranks: NumPy on its run, the serving code, the graph and Triton in both layouts answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc as grpc

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import derive
from ensemble.client.filters import Crowding, Filter, TagTest
from ensemble.layouts import CHAINED, FUSED
from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from ensemble.triton.export import GraphRuntime, export_repository
from ensemble.triton.operators import build_ensemble
from tests.congruence.rows import Rows, ask, assert_congruent, rows_of
from tests.synthetic import Run, make_release, make_run
from workflows.errors import DataError, ReleaseError

CANDIDATES, ROWS, MAX_TOP_K = 40, 48, 60
FILTERS = (
    None,
    Filter(tags={"genres": TagTest(any=["Comedy", "動画"], none=["Horror"])}),
    Filter(min_score=1.0),
    Filter(crowding=Crowding("genres", 3)),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with text ids and a history, released with a ranker of 40 candidates."""
    run = make_run(tmp_path_factory.mktemp("ranked"), "string", last=5)
    make_release(run, ranks=True)
    return run


@pytest.fixture(scope="module")
def questions(run: Run) -> pd.DataFrame:
    """Users, known and not, with more wanted than there are candidates, less, and with filters."""
    rng = np.random.default_rng(5)
    users = [*run.users["user_id"], "nobody"]
    return pd.DataFrame(
        {
            "user_id": [users[row] for row in rng.integers(0, len(users), ROWS)],
            "occupation": rng.choice(["artist", "médecin", "学生", "new"], ROWS),
            "age": rng.integers(10, 90, ROWS).astype(float),
            "timestamp": rng.integers(40, 60, ROWS),
            "top_k": rng.integers(1, MAX_TOP_K, ROWS),
            "include_seen": rng.random(ROWS) < 0.5,
            "filter": [
                filter_.text() if filter_ else "" for filter_ in rng.choice(np.array(FILTERS, dtype=object), ROWS)
            ],
        }
    )


def inputs(questions: pd.DataFrame, rows: slice) -> dict[str, np.ndarray]:
    part, types = questions.iloc[rows], {"age": np.float64, "top_k": np.int32, "timestamp": np.int64}
    arrays = {name: part[name].to_numpy(types.get(name, object)) for name in part}
    arrays["include_seen"] = part["include_seen"].to_numpy(bool)
    for name in ("user_id", "occupation", "filter"):
        arrays[name] = np.array([text.encode() for text in part[name]], dtype=object)
    return {name: values[:, None] for name, values in arrays.items()}


@pytest.fixture(scope="module")
def expected(run: Run, questions: pd.DataFrame) -> Rows:
    """The serving code's answers, all rows at once."""
    return by_retriever(run, questions, ROWS)


def by_retriever(run: Run, questions: pd.DataFrame, batch: int) -> Rows:
    retriever, rows = Retriever.load(run.path / "release"), []
    for start in range(0, ROWS, batch):
        answer = retriever.answer(retriever.reader.read([inputs(questions, slice(start, start + batch))]))
        rows += rows_of(answer.item_id, answer.score, answer.count, answer.user_known)
    return rows


def test_the_answers_are_the_best_of_the_nearest(run: Run, questions: pd.DataFrame, expected: Rows) -> None:
    """Of the allowed items the 40 nearest, or as many as were asked for, by the ranker's score."""
    similar = run.reference(questions).astype(np.float64) @ run.vectors.T.astype(np.float64)
    ranked = run.ranked(questions, np.tile(np.arange(300), (ROWS, 1)))
    ids, genres = run.items["item_id"].tolist(), [set(names) for names in run.items["genres"]]
    seen = run.interactions.iloc[:600].groupby("user_id")["item_index"].agg(set).to_dict()
    checked = 0
    for row, question in enumerate(questions.itertuples()):
        if "crowding" in question.filter:
            continue
        left = [item for item in range(300) if question.include_seen or item not in seen.get(question.user_id, ())]
        if "tags" in question.filter:
            left = [item for item in left if genres[item] & {"Comedy", "動画"} and "Horror" not in genres[item]]
        order = np.argsort(-similar[row, left], kind="stable")[: max(CANDIDATES, question.top_k)]
        scores = np.sort(ranked[row, np.array(left)[order]])[::-1][: question.top_k]
        scores = scores[scores >= 1.0] if "min_score" in question.filter else scores
        answered = [ids.index(item_id) for item_id in expected[row][0]]
        np.testing.assert_allclose(expected[row][1], scores, atol=1e-5)
        np.testing.assert_allclose(ranked[row, answered], scores, atol=1e-5)  # the right item in every place
        assert len(set(answered)) == len(answered)
        checked += len(answered)
    assert checked > 300


def test_crowding_and_counts_keep_their_meaning(run: Run, questions: pd.DataFrame, expected: Rows) -> None:
    genres = dict(zip(run.items["item_id"], run.items["genres"], strict=True))
    for question, (ids, _, _) in zip(questions.itertuples(), expected, strict=True):
        if not question.filter:
            assert len(ids) == question.top_k
        if "crowding" in question.filter:
            counts = pd.Series([genre for item in ids for genre in genres[item]]).value_counts()
            assert (counts <= 3).all()


def test_a_row_is_answered_bit_for_bit_alike_alone(run: Run, questions: pd.DataFrame, expected: Rows) -> None:
    assert by_retriever(run, questions, 1) == expected


def test_the_merlin_systems_graph_answers_alike(run: Run, questions: pd.DataFrame, expected: Rows) -> None:
    answer = build_ensemble(run.path / "release").transform(questions, GraphRuntime())
    rows = rows_of(answer["item_id"], answer["score"], answer["count"], answer["user_known"])
    assert_congruent(rows, expected)


@pytest.fixture(scope="module")
def address(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Triton with both layouts."""
    repository = export_repository(run.path / "release", tmp_path_factory.mktemp("served") / "triton", "both")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as server:
        yield server.addresses.grpc


@pytest.mark.server
@pytest.mark.parametrize("model", [FUSED, CHAINED])
def test_triton_answers_alike(address: str, questions: pd.DataFrame, expected: Rows, model: str) -> None:
    rows = []
    with grpc.InferenceServerClient(address) as client:
        for start in range(0, ROWS, 5):
            rows += ask(client, model, inputs(questions, slice(start, start + 5)))
        alone = ask(client, model, {"user_id": inputs(questions, slice(0, 1))["user_id"]})
    assert_congruent(rows, expected)
    assert len(alone[0][0]) == 10  # the release's top_k


def test_a_ranker_of_other_towers_is_refused(run: Run, tmp_path: Path) -> None:
    other_run = make_run(tmp_path / "other", "string", last=5, seed=1)
    parts = Parts(other_run.path / "features", other_run.path / "towers", tmp_path / "release", run.path / "ranker")
    with pytest.raises(ReleaseError, match="other towers"):
        write_release(parts, Training(), Settings("test", "ab" * 32))


def test_new_items_are_refused_and_removed_ones_are_gone(run: Run, questions: pd.DataFrame, tmp_path: Path) -> None:
    release = Release.open(run.path / "release")
    new = tmp_path / "new.jsonl"
    new.write_text('{"item_id": "new", "title": "New", "genres": ["Drama"], "year": 1990}\n')
    items = LiveItems(release)
    with pytest.raises(DataError, match="the release ranks its candidates"):
        items.adding(new)
    before = Retriever(release)
    first = before.answer(before.reader.read([inputs(questions, slice(0, 1))]))
    after = Retriever(derive(release, items.removing([first.item_id[0, 0]]), tmp_path / "derived").release)
    second = after.answer(after.reader.read([inputs(questions, slice(0, 1))]))
    assert first.item_id[0, 0] not in second.item_id[0]
    remaining = first.item_id[0, 1 : first.count[0]].tolist()
    common = [item for item in second.item_id[0] if item in remaining]
    assert common == remaining[: len(common)]
    assert len(common) >= len(remaining) - 1  # another candidate came up, which may be better
