"""A real Triton whose queries have a history: a click that a request carries counts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

from ensemble.client import InvalidRequest, RetrievalClient
from ensemble.layouts import CHAINED, FUSED
from ensemble.measure.benchmark import Target, benchmark, draw_requests
from ensemble.server.server import TritonServer
from ensemble.serving.retriever import Retriever
from retrieval.queries.query import Question, ask
from tests.synthetic import Run

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def address(dated_run: Run, servers: Callable[[Path], TritonServer]) -> str:
    return servers(dated_run.path / "release").addresses.grpc


@pytest.fixture(params=[FUSED, CHAINED])
def client(address: str, request: pytest.FixtureRequest) -> Iterator[RetrievalClient]:
    with RetrievalClient(address, request.param) as connection:
        yield connection


def of_release(run: Run, user: Any, time: int, clicks: list[tuple[Any, int]]) -> list[Any]:
    """Answer in this process, by other means than the client's."""
    retriever = Retriever.load(run.path / "release")
    raw = run.interactions.iloc[:600]
    known = raw[(raw["user_id"] == user) & (raw["timestamp"] <= time)]
    past = [(then, item + 3) for then, item in zip(known["timestamp"], known["item_index"], strict=True)]
    items = run.items["item_id"].tolist()
    past = sorted([*past, *((then, items.index(item) + 3) for item, then in clicks)], key=lambda row: row[0])[::-1][:5]
    request = retriever.reader.read([{"user_id": wire([[user]])}])
    features = retriever.features.compute(request.columns, retriever.users.rows_of(request.columns["user_id"].values))
    for name, values in zip(
        ("history", "history_age"), ([code for _, code in past], [time - then for then, _ in past]), strict=True
    ):
        features[name][:] = 0
        features[name][0, : len(values)] = values
    scores = (retriever.tower.encode(features) @ retriever.search.vectors.T)[0]
    seen = {*raw.loc[raw["user_id"] == user, "item_index"], *(items.index(item) for item, _ in clicks)}
    scores[list(seen)] = -np.inf
    return [items[row] for row in np.argsort(-scores, kind="stable")[:10]]


def wire(rows: list[list[Any]]) -> np.ndarray:
    if isinstance(rows[0][0], str):
        return np.array([[value.encode() for value in row] for row in rows], dtype=object)
    return np.array(rows, dtype=np.int64)


def test_a_click_changes_the_answer_and_is_not_recommended_back(dated_run: Run, client: RetrievalClient) -> None:
    user = dated_run.users["user_id"].tolist()[0]
    before = client.recommend([user], timestamps=[60])[0].item_ids
    assert before == of_release(dated_run, user, 60, [])
    clicks = [(before[0], 58), (before[3], 60)]
    after = client.recommend([user], timestamps=[60], history=[clicks])[0].item_ids
    assert after == of_release(dated_run, user, 60, clicks)
    assert after != before
    assert not {before[0], before[3]} & set(after)


def test_a_new_user_with_three_clicks_gets_an_answer_of_their_own(dated_run: Run, client: RetrievalClient) -> None:
    items = dated_run.items["item_id"].tolist()
    stranger = "nobody" if isinstance(items[0], str) else -7
    clicks = [(items[n], 50 + n) for n in (1, 2, 3)]
    nobody, personal = client.recommend([stranger] * 2, timestamps=[60] * 2, history=[[], clicks])
    assert not personal.user_known
    assert personal.item_ids != nobody.item_ids
    assert personal.item_ids == of_release(dated_run, stranger, 60, clicks)


def test_requests_with_and_without_clicks_are_answered_side_by_side(dated_run: Run, address: str) -> None:
    """One client, its requests joined by Triton as it likes: each gets the answer that it gets alone."""
    users, items = dated_run.users["user_id"].tolist(), dated_run.items["item_id"].tolist()
    questions = [(users[row], 20 + row, [(items[row + n], 20 + n) for n in range(row % 4)]) for row in range(48)]
    with RetrievalClient(address) as client, ThreadPoolExecutor(16) as pool:

        def answer(question: Any) -> Any:
            user, time, clicks = question
            return client.recommend([user], timestamps=[time], history=[clicks])[0]

        alone = [answer(question) for question in questions]
        together = list(pool.map(answer, questions))
    assert [result.item_ids for result in together] == [result.item_ids for result in alone]


def test_only_the_request_whose_lists_differ_fails(dated_run: Run, address: str, client: RetrievalClient) -> None:
    user, item = dated_run.users["user_id"].tolist()[0], dated_run.items["item_id"].tolist()[0]
    arrays = {
        "user_id": wire([[user]]),
        "history_item_ids": wire([[item, item]]),
        "history_timestamps": np.array([[1]], dtype=np.int64),
    }
    with grpc.InferenceServerClient(address) as channel:
        inputs = []
        for name, array in arrays.items():
            tensor = grpc.InferInput(name, list(array.shape), "BYTES" if array.dtype == object else "INT64")
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        with pytest.raises(
            grpc.InferenceServerException, match=r"'history_timestamps', row 0: shape \[1, 1\]"
        ) as error:
            channel.infer(client.signature().model, inputs)
    assert "INVALID_ARGUMENT" in str(error.value.status())
    with pytest.raises(InvalidRequest, match="'timestamp', row 0: got -5"):
        client.recommend([user], timestamps=[-5])
    assert client.recommend([user])[0].item_ids


def test_the_command_line_says_what_was_just_watched(dated_run: Run, address: str) -> None:
    user, items = str(dated_run.users["user_id"].tolist()[0]), dated_run.items["item_id"].tolist()
    watched = [str(items[7]), f"{items[8]}@41"]
    answer = ask(address, Question([user], 10, [], False, [], timestamp=60, watched=watched), None)[0]
    expected = of_release(dated_run, answer.user, 60, [(items[8], 41), (items[7], 60)])
    assert [item.id for item in answer.items] == expected


def test_the_benchmark_sends_the_times_of_its_rows(dated_run: Run, address: str) -> None:
    requests = draw_requests(dated_run.path, 40)
    assert requests.timestamps is not None
    points = benchmark(Target(address, measurement_interval_ms=200), requests, batches=(1, 4), concurrencies=(2,))
    assert all(point.rows_per_s > 0 for point in points)
