"""One question, many ways to ask it, one answer: NumPy on the release's files, the serving code, the merlin-systems
graph, and a real Triton in both layouts, row by row, in batches and under concurrent clients."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc as grpc

from ensemble.client.filters import Crowding, Filter, Range, TagTest
from ensemble.layouts import CHAINED, FUSED
from ensemble.serving.retriever import Retriever
from ensemble.triton.export import GraphRuntime
from ensemble.triton.operators import build_ensemble
from tests.congruence.rows import Rows, ask, assert_congruent, rows_of
from tests.served import Served
from tests.synthetic import Run, make_release, make_run

pytestmark = pytest.mark.server

ROWS, MAX_TOP_K = 192, 60
FILTERS = (
    None,
    Filter(tags={"genres": TagTest(any=["Comedy", "動画"], none=["Horror"])}),
    Filter(tags={"genres": TagTest(all=["Drama"])}, ranges={"year": Range(1992, 1996)}),
    Filter(crowding=Crowding("genres", 3), min_score=-0.5),
)
"""The third one leaves few items, the last one more than it may be known how many without walking through them."""


@dataclass(frozen=True)
class Questions:
    """Rows with everything that a request can carry."""

    frame: pd.DataFrame

    def inputs(self, rows: slice) -> dict[str, np.ndarray]:
        """Return the rows as the wire has them."""
        part = self.frame.iloc[rows]
        width = max(map(len, part["exclude_item_ids"]))
        text = part["user_id"].dtype == object
        blank: Any = b"" if text else -(2**63)
        excluded = [[*map(_wire, ids), *[blank] * (width - len(ids))] for ids in part["exclude_item_ids"]]
        return {
            "user_id": _column(part["user_id"], object if text else np.int64),
            "age": _column(part["age"], np.float64),
            "occupation": _column(part["occupation"], object),
            "top_k": _column(part["top_k"], np.int32),
            "include_seen": _column(part["include_seen"], np.bool_),
            "filter": _column(part["filter"], object),
            "exclude_item_ids": np.array(excluded, dtype=object if text else np.int64).reshape(len(part), width),
        }


@pytest.fixture(scope="module")
def questions(run: Run) -> Questions:
    """Known and unknown users, known and new values, exclusions of every length."""
    rng = np.random.default_rng(11)
    text = run.users["user_id"].dtype == object
    users = [*run.users["user_id"], *(["nobody", "", "ü"] if text else [-1, 2**63 - 1, -(2**63)])]
    items = run.items["item_id"].tolist()
    chosen = rng.integers(0, len(users), ROWS)
    excluded = [[items[row] for row in rng.integers(0, 300, rng.choice([0, 1, 7, 300]))] for _ in range(ROWS)]
    return Questions(
        pd.DataFrame(
            {
                "user_id": [users[row] for row in chosen],
                "age": rng.integers(10, 90, ROWS).astype(float),
                "occupation": rng.choice(["artist", "médecin", "学生", "new"], ROWS),
                "top_k": rng.integers(1, MAX_TOP_K, ROWS),
                "include_seen": rng.random(ROWS) < 0.5,
                "exclude_item_ids": excluded,
                "filter": [
                    filter_.text() if filter_ else "" for filter_ in rng.choice(np.array(FILTERS, dtype=object), ROWS)
                ],
            }
        )
    )


@pytest.fixture(scope="module")
def expected(release: Path, questions: Questions) -> Rows:
    """The serving code's answers in batches of 64, which NumPy confirms below."""
    return by_retriever(release, questions, 64)


def by_retriever(release: Path, questions: Questions, batch: int) -> Rows:
    """Ask the serving code in this process."""
    retriever = Retriever.load(release)
    answers: Rows = []
    for start in range(0, ROWS, batch):
        answer = retriever.answer(retriever.reader.read([questions.inputs(slice(start, start + batch))]))
        answers += rows_of(answer.item_id, answer.score, answer.count, answer.user_known)
    return answers


def by_triton(address: str, model: str, questions: Questions, batch: int, clients: int = 1) -> Rows:
    """Ask a model in Triton, `clients` requests at a time."""
    with grpc.InferenceServerClient(address) as client, ThreadPoolExecutor(clients) as pool:
        parts = pool.map(
            lambda start: ask(client, model, questions.inputs(slice(start, start + batch))), range(0, ROWS, batch)
        )
        return [row for part in parts for row in part]


def test_the_serving_code_answers_as_numpy_does(run: Run, release: Path, questions: Questions, expected: Rows) -> None:
    """In float64 and plain Python sets, from the release's own vectors; where scores are tied, either item will do."""
    vectors = np.load(release / "items/vectors.npy")
    scores = run.reference(questions.frame).astype(np.float64) @ vectors.T.astype(np.float64)
    ids, known = run.items["item_id"].tolist(), set(run.users["user_id"])
    history = run.interactions.iloc[:600].groupby("user_id")["item_index"].apply(set).to_dict()
    passed = {
        filter_.text() if filter_ else "": passing(filter_, run.items)
        for filter_ in FILTERS
        if filter_ is None or not filter_.crowding
    }
    for row, question in enumerate(questions.frame.itertuples()):
        if question.filter not in passed:
            continue  # tests/serving/test_filters.py
        seen = set() if question.include_seen else history.get(question.user_id, set())
        left = [
            item
            for item in passed[question.filter]
            if item not in seen and ids[item] not in set(question.exclude_item_ids)
        ]
        best = np.sort(scores[row, left])[::-1][: question.top_k]
        answered = [ids.index(item_id) for item_id in expected[row][0]]
        assert set(answered) <= set(left)
        assert len(set(answered)) == len(answered)
        assert expected[row][2] == (question.user_id in known)
        np.testing.assert_allclose(scores[row, answered], best, rtol=0, atol=1e-6)  # the right item in every place
        np.testing.assert_allclose(expected[row][1], best, rtol=0, atol=1e-5)
        for first, second in pairwise(answered):  # equal vectors stand in catalogue order
            assert first < second or not np.array_equal(vectors[first], vectors[second])


def passing(filter_: Filter | None, items: pd.DataFrame) -> list[int]:
    """Return the items that a filter lets through."""
    if filter_ is None:
        return list(range(len(items)))
    test, years = filter_.tags["genres"], filter_.ranges.get("year", Range(-np.inf, np.inf))
    return [
        row
        for row, (genres, year) in enumerate(zip(items["genres"], items["year"], strict=True))
        if (not test.any or {*genres} & {*test.any})
        and {*genres} >= {*test.all}
        and not {*genres} & {*test.none}
        and ("year" not in filter_.ranges or years.min <= year <= years.max)
    ]


def test_a_row_is_answered_bit_for_bit_alike_alone_and_in_a_batch(
    release: Path, questions: Questions, expected: Rows
) -> None:
    assert by_retriever(release, questions, 1) == expected


def test_the_merlin_systems_graph_answers_alike(release: Path, questions: Questions, expected: Rows) -> None:
    answer = build_ensemble(release).transform(questions.frame, GraphRuntime())
    rows = zip(answer["item_id"], answer["score"], answer["count"], answer["user_known"], strict=True)
    answers = [
        (list(ids[:count]), [float(score) for score in scores[:count]], bool(known))
        for ids, scores, count, known in rows
    ]
    assert_congruent(answers, expected)


@pytest.mark.parametrize("model", [FUSED, CHAINED])
@pytest.mark.parametrize(("batch", "clients"), [(1, 1), (64, 1), (1, 32), (7, 32)])
def test_triton_answers_alike(
    served: Served, questions: Questions, expected: Rows, model: str, batch: int, clients: int
) -> None:
    assert_congruent(by_triton(served.address, model, questions, batch, clients), expected)


@pytest.mark.parametrize("model", [FUSED, CHAINED])
def test_requests_that_leave_inputs_out_are_answered_beside_those_that_do_not(
    served: Served, release: Path, run: Run, model: str
) -> None:
    """Triton may run them together or apart; either way each gets the answer to its own question."""
    users = run.users["user_id"].tolist()
    column = _column(pd.Series(users), object if isinstance(users[0], str) else np.int64)
    variants: list[Callable[[slice], dict[str, np.ndarray]]] = [
        lambda rows: {"user_id": column[rows]},
        lambda rows: {"user_id": column[rows], "top_k": np.full((1, 1), 3, np.int32)},
        lambda rows: {"user_id": column[rows], "occupation": np.array([[b"artist"]], dtype=object)},
    ]
    requests = [variant(slice(row, row + 1)) for row in range(len(users)) for variant in variants]
    with grpc.InferenceServerClient(served.address) as client, ThreadPoolExecutor(16) as pool:
        answers = [rows[0] for rows in pool.map(lambda inputs: ask(client, model, inputs), requests)]
    retriever = Retriever.load(release)
    for inputs, row in zip(requests, answers, strict=True):
        answer = retriever.answer(retriever.reader.read([inputs]))
        assert_congruent([row], rows_of(answer.item_id, answer.score, answer.count, answer.user_known))


def _column(values: pd.Series, dtype: Any) -> np.ndarray:
    return np.array([[_wire(value)] for value in values], dtype=dtype).reshape(len(values), 1)


def _wire(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def test_vectors_as_long_as_a_blend_makes_them_are_released(tmp_path: Path) -> None:
    """Float32 scores of a thousand are further from float64's than those of unit vectors."""
    make_release(make_run(tmp_path / "run", length=1000.0))
