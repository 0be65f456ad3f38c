"""The served history is that of training: what the release knows and the request adds, cut at the query's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.client.tensors import NO_ITEM, Query, Signature, tensors
from ensemble.serving.errors import InvalidRequest
from ensemble.serving.retriever import Retriever
from ensemble.triton.export import GraphRuntime
from ensemble.triton.operators import build_ensemble
from tests.synthetic import Run
from workflows.config import Sequence
from workflows.features.history import history_features, spec_of

KNOWN = 600
"""The training and validation rows of the synthetic run."""


class Subject:
    """A release and how to ask it as the client does."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.release = run.path / "release"
        self.retriever = Retriever.load(self.release)
        self.users = run.users["user_id"].tolist()
        self.items = run.items["item_id"].tolist()
        text = run.users["user_id"].dtype == object
        self.stranger: Any = "nobody" if text else -7
        self.no_item = NO_ITEM["BYTES" if text else "INT64"]
        self.spec = spec_of(Sequence(last=run.last), len(self.items))
        inputs = {column.name: column.dtype for column in self.retriever.inputs}
        self.signature = Signature("retrieval", 64, inputs, 10, 400)

    def arrays(self, query: Query) -> dict[str, np.ndarray]:
        """Return the inputs, strings as the bytes that they are on the wire."""
        arrays = tensors(self.signature, query)
        encode = np.frompyfunc(str.encode, 1, 1)
        return {name: encode(array) if array.dtype == object else array for name, array in arrays.items()}

    def features(self, query: Query) -> dict[str, np.ndarray]:
        """Return the history as it is served."""
        request = self.retriever.reader.read([self.arrays(query)])
        rows = self.retriever.users.rows_of(request.columns["user_id"].values)
        features = self.retriever.features.compute(request.columns, rows, request.clicks)
        return {name: features[name] for name in ("history", "history_age")}

    def defined(self, query: Query) -> dict[str, np.ndarray]:
        """Return the history by the training side's code: the clicks are further rows of what is known."""
        release = self.run.interactions.iloc[:KNOWN][["user_id", "item_index", "timestamp"]]
        histories = []
        for row, (user, now) in enumerate(zip(query.user_ids, query.timestamps, strict=True)):
            clicks = query.history[row] if query.history else []
            index = [self.items.index(item) if item in self.items else -1 for item, _ in clicks]
            added = {"user_id": [user] * len(clicks), "item_index": index, "timestamp": [time for _, time in clicks]}
            known = pd.concat([release, pd.DataFrame(added).astype({"user_id": release["user_id"].dtype})])
            known = known.astype({"item_index": "int64", "timestamp": "int64"})
            question = pd.DataFrame({"user_id": [user], "timestamp": [now]})
            histories.append(history_features(self.spec, question, known, own=False))
        return {name: np.concatenate([history[name] for history in histories]) for name in ("history", "history_age")}


@pytest.fixture(scope="module")
def subject(dated_run: Run) -> Subject:
    return Subject(dated_run)


def draw_query(subject: Subject, data: st.DataObject, rows: int) -> Query:
    users = st.sampled_from([*subject.users[:6], subject.users[-1], subject.stranger])
    items = st.sampled_from([*subject.items[:8], subject.stranger])
    clicks = st.lists(st.tuples(items, st.integers(0, 60)), max_size=8)
    return Query(
        data.draw(st.lists(users, min_size=rows, max_size=rows)),
        timestamps=data.draw(st.lists(st.integers(0, 60), min_size=rows, max_size=rows)),
        history=data.draw(st.none() | st.lists(clicks, min_size=rows, max_size=rows)),
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.sampled_from([1, 1, 2, 7]))
def test_the_served_history_is_that_of_training(subject: Subject, data: st.DataObject, rows: int) -> None:
    query = draw_query(subject, data, rows)
    features, expected = subject.features(query), subject.defined(query)
    for name, array in expected.items():
        assert features[name].dtype == array.dtype
        assert np.array_equal(features[name], array), name


def test_every_user_at_every_time_has_the_history_of_training(subject: Subject) -> None:
    """All at once: the binary search over many rows."""
    times = [time for time in range(-1, 52, 4) if time >= 0]
    users = [user for user in [*subject.users, subject.stranger] for _ in times]
    query = Query(users, timestamps=times * (len(subject.users) + 1))
    features, expected = subject.features(query), subject.defined(query)
    assert all(np.array_equal(features[name], expected[name]) for name in expected)


def test_queries_with_a_history_are_answered_alike_alone_in_a_batch_and_by_the_graph(subject: Subject) -> None:
    rng = np.random.default_rng(5)
    rows = 40
    clicks = [
        [(subject.items[int(item)], int(time)) for item, time in rng.integers(0, 60, (rng.integers(0, 7), 2))]
        for _ in range(rows)
    ]
    users = [[*subject.users, subject.stranger][index] for index in rng.integers(0, 61, rows)]
    times = rng.integers(0, 60, rows).tolist()
    together = subject.retriever.answer(
        subject.retriever.reader.read([subject.arrays(Query(users, timestamps=times, history=clicks))])
    )
    for row in range(rows):
        alone = Query([users[row]], timestamps=[times[row]], history=[clicks[row]])
        answer = subject.retriever.answer(subject.retriever.reader.read([subject.arrays(alone)]))
        assert answer.item_id[0].tolist() == together.item_id[row].tolist()
        assert answer.score[0].tolist() == together.score[row].tolist()
    columns = {
        "user_id": users,
        "timestamp": times,
        "history_item_ids": [[item for item, _ in history] for history in clicks],
        "history_timestamps": [[time for _, time in history] for history in clicks],
    }
    graph = build_ensemble(subject.release).transform(pd.DataFrame(columns), GraphRuntime())
    assert [list(ids) for ids in graph["item_id"]] == together.item_id.tolist()
    np.testing.assert_allclose(np.stack(graph["score"].tolist()), together.score, rtol=0, atol=1e-6)


def test_the_release_answers_as_the_training_side_does(subject: Subject) -> None:
    rows = subject.run.interactions.iloc[KNOWN:].merge(subject.run.users, on="user_id").reset_index(drop=True)
    query = Query(rows["user_id"].tolist(), timestamps=rows["timestamp"].tolist())
    request = subject.retriever.reader.read([subject.arrays(query)])
    users = subject.retriever.users.rows_of(request.columns["user_id"].values)
    vectors = subject.retriever.tower.encode(subject.retriever.features.compute(request.columns, users))
    np.testing.assert_allclose(vectors, subject.run.reference(rows), rtol=0, atol=1e-5)


def test_a_click_is_not_recommended_back_unless_seen_items_are_wanted(subject: Subject) -> None:
    clicks = [[(subject.items[3], 40), (subject.items[4], 99)], [(subject.items[5], 1), (subject.no_item, -5)]]
    for seen in (False, True):
        query = Query([subject.stranger] * 2, top_k=300, timestamps=[50] * 2, history=clicks, include_seen=seen)
        answer = subject.retriever.answer(subject.retriever.reader.read([subject.arrays(query)]))
        assert answer.count.tolist() == ([300, 300] if seen else [298, 299])
        assert (subject.items[4] in answer.item_id[0].tolist()) is seen  # later than the query, and seen all the same


def test_without_a_time_a_query_is_of_now_and_of_its_newest_click(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.serving.query.features.time.time", lambda: 1000.75)
    history = [[], [(subject.items[0], 990)], [(subject.items[0], 1003), (subject.items[1], 1001)]]
    features = subject.features(Query([subject.stranger] * 3, history=history))
    assert features["history_age"][:, :2].tolist() == [[0, 0], [10, 0], [0, 2]]
    assert features["history"][:, :2].tolist() == [[0, 0], [3, 0], [3, 4]]
    at_once = subject.features(Query([subject.stranger], history=history[2:]))
    assert np.array_equal(at_once["history_age"], features["history_age"][2:])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"history_timestamps": np.zeros((2, 1), np.int64)}, r"'history_timestamps', row 0: shape \[2, 1\].*\[2, 2\]"),
        ({"history_timestamps": None}, "'history_timestamps': missing"),
        ({"history_item_ids": None}, "'history_item_ids': missing"),
        ({"history_timestamps": np.array([[1, 2], [3, -1]])}, "'history_timestamps', row 1: got -1"),
        ({"history_timestamps": np.array([[1, 2], [3, 10**12]])}, "row 1: got 1000000000000, .*not milliseconds"),
        ({"timestamp": np.array([[1], [-3]])}, "'timestamp', row 1: got -3"),
        ({"timestamp": np.array([[1]])}, "'timestamp': 1 rows, expected 2"),
    ],
)
def test_a_history_that_cannot_be_read_is_refused_with_its_row(
    subject: Subject, changed: dict[str, Any], message: str
) -> None:
    clicks = [[(subject.items[0], 1), (subject.items[1], 2)]] * 2
    arrays = {**subject.arrays(Query(subject.users[:2], timestamps=[5, 5], history=clicks)), **changed}
    with pytest.raises(InvalidRequest, match=message):
        subject.retriever.reader.read([{name: array for name, array in arrays.items() if array is not None}])


def test_too_long_a_history_is_refused(subject: Subject) -> None:
    query = Query(subject.users[:1], history=[[(subject.items[0], 1)] * 1001])
    with pytest.raises(InvalidRequest, match="'history_item_ids', row 0: 1001 ids, expected at most 1000"):
        subject.retriever.reader.read([subject.arrays(query)])


def test_a_release_without_a_history_takes_none(run: Run) -> None:
    retriever = Retriever.load(run.path / "release")
    assert not {"timestamp", "history_item_ids", "history_timestamps"} & {column.name for column in retriever.inputs}
