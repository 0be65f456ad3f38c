"""What the client does before and without a server; against real servers it is asked in tests/server."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.client import ClientError, DeadlineExceeded, InvalidRequest, RetrievalClient, Unavailable
from ensemble.client.tensors import NO_ITEM, Query, Signature, read_signature, slices, tensors

INPUTS = {"user_id": "INT64", "age": "FP64", "gender": "BYTES", "top_k": "INT32"}
NUMBERS = Signature("m", 4, {**INPUTS, "exclude_item_ids": "INT64", "include_seen": "BOOL"}, 10, 100)
STRINGS = Signature(
    "m", 4, {**INPUTS, "user_id": "BYTES", "exclude_item_ids": "BYTES", "include_seen": "BOOL"}, 10, 100
)

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text()  # Unicode without lone surrogates


@given(st.lists(st.tuples(int64, st.lists(int64, max_size=4)), max_size=12))
def test_integer_ids_and_exclusions_arrive_as_they_were_given(rows: list[tuple[int, list[int]]]) -> None:
    query = Query([user for user, _ in rows], exclude_item_ids=[items for _, items in rows])
    _check_round_trip(NUMBERS, query, np.int64)


@given(st.lists(st.tuples(text, st.lists(text, max_size=4)), max_size=12))
def test_string_ids_and_exclusions_arrive_as_they_were_given(rows: list[tuple[str, list[str]]]) -> None:
    query = Query([user for user, _ in rows], exclude_item_ids=[items for _, items in rows])
    _check_round_trip(STRINGS, query, np.object_)


def _check_round_trip(signature: Signature, query: Query, dtype: type) -> None:
    requests = list(slices(tensors(signature, query), signature.max_batch_size))
    assert [start for start, _ in requests] == list(range(0, len(query.user_ids), signature.max_batch_size))
    users, excluded = [], []
    pad = NO_ITEM[signature.inputs["exclude_item_ids"]]
    for _, arrays in requests:
        assert arrays["user_id"].dtype == dtype
        assert {len(array) for array in arrays.values()} == {len(arrays["user_id"])}
        users += arrays["user_id"].ravel().tolist()
        excluded += [[item for item in row if item != pad] for row in arrays["exclude_item_ids"].tolist()]
    assert users == query.user_ids
    assert excluded == [[item for item in row if item != pad] for row in query.exclude_item_ids or []]


def test_every_query_sends_the_same_inputs_so_that_triton_joins_them() -> None:
    bare = tensors(NUMBERS, Query([1, 2]))
    full = tensors(NUMBERS, Query([1, 2], 5, [[1], [2, 3]], include_seen=True))
    assert bare.keys() == full.keys() == {"user_id", "top_k", "exclude_item_ids", "include_seen"}
    assert bare["exclude_item_ids"].shape == (2, 0)
    assert bare["top_k"].tolist() == [[10], [10]]
    assert [array.ndim for array in full.values()] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query("abc"), "column 'user_id', expected a list or array.* got 'abc'"),
        (Query([1, "2"]), r"column 'user_id', row 1: got '2' \(str\), expected a 64-bit integer"),
        (Query([1.5]), r"column 'user_id', row 0: got 1.5 \(float\)"),
        (Query([True]), "column 'user_id', row 0: got True"),
        (Query([None]), "column 'user_id', row 0: got None"),
        (Query([2**63]), "column 'user_id', row 0: got 9223372036854775808"),
        (Query(np.array([[1]])), r"column 'user_id': expected one dimension, \[rows\], got shape \[1, 1\]"),
        (Query(np.array([1.0, 2.0])), "column 'user_id', row 0: got 1.0"),
        (Query([1], columns={"gender": np.array([1.0])}), "column 'gender', row 0: got 1.0.* expected a string"),
        (Query([1], top_k=0), "column 'top_k': got 0, expected an integer from 1 to 100"),
        (Query([1], top_k=-1), "column 'top_k': got -1"),
        (Query([1], top_k=101), "column 'top_k': got 101"),
        (Query([1], top_k=2.0), "column 'top_k': got 2.0"),  # type: ignore[arg-type]
        (Query([1], exclude_item_ids=[[1], [2]]), "column 'exclude_item_ids': 2 lists, expected 1"),
        (Query([1], exclude_item_ids=[7]), "column 'exclude_item_ids', row 0: expected a list"),  # type: ignore[list-item]
        (Query([1], exclude_item_ids=[[7, "x"]]), "column 'exclude_item_ids', row 0, entry 1: got 'x'"),
        (Query([1], columns={"shoe_size": [44]}), "column 'shoe_size': .* it takes age, gender"),
        (Query([1], columns={"top_k": [4]}), "column 'top_k': .* it takes age, gender"),
        (Query([1], columns={"age": [20, 30]}), "column 'age': 2 values, expected 1"),
        (Query([1], columns={"age": ["old"]}), "column 'age', row 0: got 'old'.* expected a number"),
        (Query([1], columns={"gender": [b"F"]}), "column 'gender', row 0: got b'F'.* expected a string"),
        (Query([1], columns={"gender": ["\ud800"]}), "column 'gender', row 0: got '.ud800'.* expected a string"),
    ],
)
def test_a_wrong_query_is_refused_before_it_is_sent(query: Query, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        tensors(NUMBERS, query)
    assert re.search(message, str(raised.value)), str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_a_model_of_another_kind_is_named() -> None:
    with pytest.raises(ClientError, match="model 'resnet' is no retrieval model: it has inputs image"):
        read_signature({"name": "resnet", "max_batch_size": 8, "input": [{"name": "image", "data_type": "TYPE_FP32"}]})


@pytest.fixture
def silent_address() -> Iterator[str]:
    """The address of a server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_ends_in_deadline_exceeded(silent_address: str) -> None:
    with RetrievalClient(silent_address, timeout_s=0.2) as client, pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        client.recommend([1])


def test_no_server_is_unavailable_and_the_message_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with RetrievalClient(address) as client, pytest.raises(Unavailable, match=f"{address}.*is the server running"):
        client.recommend([1])


def test_a_deadline_must_be_positive() -> None:
    with pytest.raises(InvalidRequest, match="timeout_s"):
        RetrievalClient(timeout_s=0)
