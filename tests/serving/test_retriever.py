"""From a request to its answer: where columns come from, what is left out, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.serving.errors import InvalidRequest
from ensemble.serving.retriever import Answer, Retriever
from tests.synthetic import Run


@pytest.fixture(scope="module")
def retriever(release: Path) -> Retriever:
    """The loaded release."""
    return Retriever.load(release)


def wire(values: Any) -> np.ndarray:
    """Return one value per row as the wire has it."""
    if all(isinstance(value, str) for value in values):
        return np.array([[value.encode()] for value in values], dtype=object)
    return np.array(values).reshape(len(values), 1)


def ask(retriever: Retriever, users: Any, **inputs: Any) -> Answer:
    """Answer one request."""
    return retriever.answer(retriever.reader.read([{"user_id": wire(list(users)), **inputs}]))


def expected_ids(run: Run, queries: pd.DataFrame, k: int) -> list[list[Any]]:
    """Return the best items by the training side's vectors and a full sort, with no exclusions."""
    scores = np.einsum("nd,id->ni", run.reference(queries), run.vectors)
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=-1)
    return [run.items["item_id"].iloc[row[:k]].tolist() for row in order]


def everything(users: Any) -> dict[str, np.ndarray]:
    return {"include_seen": np.ones((len(users), 1), dtype=bool)}


def test_a_user_id_alone_brings_the_users_columns(run: Run, retriever: Retriever) -> None:
    users = run.users["user_id"]
    answer = ask(retriever, users, **everything(users))
    assert answer.item_id.tolist() == expected_ids(run, run.users, 10)
    assert answer.user_known.all()
    assert (answer.count == 10).all()


def test_a_sent_column_overrides_the_known_one(run: Run, retriever: Retriever) -> None:
    users = run.users["user_id"]
    sent = run.users.assign(age=77.0, occupation="学生")
    answer = ask(
        retriever,
        users,
        age=wire(sent["age"].tolist()),
        occupation=wire(sent["occupation"].tolist()),
        **everything(users),
    )
    assert answer.item_id.tolist() == expected_ids(run, sent, 10)


def test_an_unknown_user_is_served_as_unseen_and_flagged(run: Run, retriever: Retriever) -> None:
    stranger: Any = "nobody" if run.users["user_id"].dtype == object else -(2**63)
    answer = ask(retriever, [stranger])
    assert not answer.user_known.any()
    queries = pd.DataFrame({"user_id": [stranger], "age": [np.nan], "occupation": [None]})
    assert answer.item_id.tolist() == expected_ids(run, queries, 10)


def test_known_history_is_left_out_unless_asked_for(run: Run, retriever: Retriever) -> None:
    users, known = run.users["user_id"], run.interactions.iloc[:600]  # training and validation rows
    seen = known.groupby("user_id")["item_index"].apply(set).to_dict()
    top_k = np.full((len(users), 1), 300, np.int32)
    without = ask(retriever, users, top_k=top_k)
    for user, row, count in zip(users, without.item_index, without.count, strict=True):
        assert set(row[:count]) == set(range(300)) - seen.get(user, set())
    assert (ask(retriever, users, top_k=top_k, **everything(users)).count == 300).all()
    unseen_test = set(run.interactions.iloc[600:]["item_index"]) - set().union(*seen.values())
    assert unseen_test, "test rows must not count as known"


def test_excluded_ids_never_come_back_and_strangers_among_them_do_nothing(run: Run, retriever: Retriever) -> None:
    user, items = run.users["user_id"].iloc[0], run.items["item_id"]
    first = ask(retriever, [user], **everything([user]))
    gone = first.item_id[0, :4].tolist()
    stranger: Any = "" if items.dtype == object else -(2**63)
    excluded = wire([*gone, *gone, stranger]).reshape(1, -1)
    second = ask(retriever, [user], exclude_item_ids=excluded, **everything([user]))
    assert second.item_id[0, :6].tolist() == first.item_id[0, 4:].tolist()
    every = wire(items.tolist()).reshape(1, -1)
    none = ask(retriever, [user], exclude_item_ids=every)
    assert none.count.tolist() == [0]
    assert none.item_id[0].tolist() == [("" if items.dtype == object else 0)] * 10
    assert np.isneginf(none.score).all()


def test_top_k_beyond_the_catalogue_is_answered_with_all_there_is(run: Run, retriever: Retriever) -> None:
    users = run.users["user_id"].iloc[:2]
    answer = ask(retriever, users, top_k=np.array([[400], [3]], np.int32), **everything(users))
    assert answer.count.tolist() == [300, 3]
    assert answer.item_id.shape == (2, 400)
    assert len(set(answer.item_id[0, :300])) == 300


def test_joined_requests_are_answered_as_each_alone(run: Run, retriever: Retriever) -> None:
    users, items = run.users["user_id"].tolist(), run.items["item_id"].tolist()
    requests = [
        {
            "user_id": wire(users[start:stop]),
            "top_k": np.full((stop - start, 1), 5 + start, np.int32),
            "exclude_item_ids": wire(items[: width * (stop - start)] or items[:0]).reshape(stop - start, width)
            if width
            else np.zeros((stop - start, 0), dtype=object if isinstance(items[0], str) else np.int64),
            "include_seen": np.full((stop - start, 1), width == 3),
        }
        for start, stop, width in [(0, 1, 0), (1, 4, 3), (4, 5, 120), (5, 25, 2), (25, 60, 0)]
    ]
    joint, start = retriever.answer(retriever.reader.read(requests)), 0
    for request in requests:
        alone = retriever.answer(retriever.reader.read([request]))
        stop, width = start + len(alone.count), alone.item_id.shape[1]
        for own, whole in zip(alone, joint, strict=True):
            np.testing.assert_array_equal(own, whole[start:stop, :width] if whole.ndim == 2 else whole[start:stop])
        start = stop


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"age": [[30.0], [np.nan]]}, ["'age'", "row 1", "nan", "a finite number"]),
        ({"age": [[30.0], [np.inf]]}, ["'age'", "row 1", "inf", "a finite number"]),
        ({"age": [[30.0], [1e300]]}, ["'age'", "row 1", "got 1e+300", "finite float32"]),
        ({"age": [[30.0], [-1e40]]}, ["'age'", "row 1", "got -1e+40", "finite float32"]),
        ({"top_k": [[1], [0]]}, ["'top_k'", "row 1", "got 0", "from 1 to 400"]),
        ({"top_k": [[-7], [1]]}, ["'top_k'", "row 0", "got -7"]),
        ({"top_k": [[1], [401]]}, ["'top_k'", "row 1", "got 401"]),
        ({"occupation": [[b"artist"], [b"\xff\xfe"]]}, ["'occupation'", "row 1", "UTF-8"]),
        ({"exclude_item_ids": [[5] * 501] * 2}, ["'exclude_item_ids'", "501", "at most 500"]),
        ({"top_k": [[1]]}, ["'top_k'", "1 rows", "expected 2"]),
    ],
)
def test_a_bad_value_is_refused_with_column_row_and_expectation(
    run: Run, retriever: Retriever, inputs: dict[str, Any], words: list[str]
) -> None:
    sent = {name: np.array(value, dtype=object if name == "occupation" else None) for name, value in inputs.items()}
    with pytest.raises(InvalidRequest) as caught:
        ask(retriever, run.users["user_id"].iloc[:2], **sent)
    for word in words:
        assert word in str(caught.value)


def test_a_request_without_user_or_rows_is_refused(retriever: Retriever) -> None:
    with pytest.raises(InvalidRequest, match="'user_id': missing"):
        retriever.reader.read([{"top_k": np.array([[1]], np.int32)}])
    with pytest.raises(InvalidRequest, match="no rows"):
        retriever.reader.read([{"user_id": np.zeros((0, 1), np.int64)}])
