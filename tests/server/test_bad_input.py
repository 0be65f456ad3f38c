"""Bad input against a real Triton: each is refused by name, alone, and the server goes on answering.

What Triton itself refuses, before the model sees it, is marked so; the rest are the model's own messages.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client import InvalidRequest, RetrievalClient
from ensemble.client.filters import Crowding, Filter, TagTest
from ensemble.client.tensors import Query, tensors
from ensemble.layouts import CHAINED, FUSED, SEARCH, TOWER
from tests.served import Inputs, Served, int32, numbers, tensor, texts
from tests.waiting import until

pytestmark = pytest.mark.server

MAX_TOP_K, MAX_ROWS, MAX_EXCLUDED = 400, 64, 500  # tests/synthetic.py
GOOD_FILTERS = (None, Filter(tags={"genres": TagTest(any=["Drama"])}), Filter(crowding=Crowding("year", 1)))
Case = tuple[Callable[[Served], Inputs], str]


def good(served: Served, **changed: tuple[str, np.ndarray] | None) -> dict[str, tuple[str, np.ndarray]]:
    """Return the inputs of a right request of two rows, with some of them changed or (None) left out."""
    inputs = {
        "user_id": served.ids(served.users[:2]),
        "top_k": int32(5, 5),
        "exclude_item_ids": served.no_items(2),
        "include_seen": ("BOOL", np.zeros((2, 1), dtype=bool)),
        **changed,
    }
    return {name: sent for name, sent in inputs.items() if sent is not None}


def changed(**inputs: tuple[str, np.ndarray] | None) -> Callable[[Served], Inputs]:
    return lambda served: good(served, **inputs)


BAD_FOR_THE_MODEL: dict[str, Case] = {
    # Triton counts inputs, and does not miss this one where others make up the number.
    "no user_id": (changed(user_id=None), "column 'user_id'.*missing.*expected (INT64|BYTES)"),
    "top_k of 0": (changed(top_k=int32(5, 0)), "column 'top_k', row 1: got 0, expected an integer from 1 to 400"),
    "negative top_k": (changed(top_k=int32(-3, 5)), "column 'top_k', row 0: got -3, expected an integer from 1 to"),
    "top_k over the maximum": (changed(top_k=int32(5, 401)), "column 'top_k', row 1: got 401, expected .* 1 to 400"),
    "NaN": (changed(age=numbers(20, np.nan)), "column 'age', row 1: got nan, expected a finite number"),
    "infinity": (changed(age=numbers(-np.inf, 20)), "column 'age', row 0: got -inf, expected a finite number"),
    "not UTF-8": (
        changed(occupation=texts(b"artist", b"\xff\xfe")),
        r"column 'occupation', row 1: got .*\\xff.* expected UTF-8",
    ),
    "too long a text": (
        changed(occupation=texts(b"artist", b"x" * 70_000)),
        "column 'occupation', row 1: 70000 bytes, expected at most 65536",
    ),
    "a filter that is no JSON": (changed(filter=texts(b"", b"{")), "column 'filter', row 1: not JSON"),
    "a filter by what the release does not have": (
        changed(filter=texts(b'{"tags": {"color": {"any": ["red"]}}}', b"")),
        "column 'filter', row 0: 'tags', 'color': no attribute of the release; expected .* 'genres'",
    ),
    "too long a list": (
        lambda served: good(served, exclude_item_ids=served.no_items(2, MAX_EXCLUDED + 1)),
        "column 'exclude_item_ids', row 0: 501 ids, expected at most 500",
    ),
}

# Without a single column Triton does not call the first of the chained models, and says that it has 0 inputs.
BAD_FOR_THE_CHAIN = {
    **BAD_FOR_THE_MODEL,
    "no user_id": (changed(user_id=None, age=numbers(20, 30)), "column 'user_id'.*missing.*expected (INT64|BYTES)"),
}

# Triton checks these before the model is called. Its messages name the input and what was expected of it.
BAD_FOR_TRITON: dict[str, Case] = {
    "no input at all": (lambda _: {}, "missing required input.*user_id"),
    "wrong dtype": (
        changed(user_id=int32(1, 2)),
        "input 'user_id' data-type is 'INT32', but model 'retrieval' expects '(INT64|BYTES)'",
    ),
    "text for a number": (changed(top_k=texts(b"5", b"5")), "'top_k' data-type is 'BYTES'.*expects 'INT32'"),
    "unknown input": (changed(shoe_size=int32(44, 45)), "unexpected inference input 'shoe_size' for model 'retrieval'"),
    # It takes no rows for one row whose data are missing, and names the first input that it looks at.
    "no rows": (
        lambda served: {"user_id": served.ids([]), "top_k": int32()},
        r"input byte size mismatch for input '\w+'.*Expected \d, got 0|"
        r"unexpected number of string elements 0 for inference input 'user_id'.*expecting 1",
    ),
    "row counts that differ": (changed(top_k=int32(5)), r"input '\w+' batch size does not match other inputs"),
    "too many rows": (
        lambda served: {"user_id": served.ids([served.stranger] * (MAX_ROWS + 1))},
        "batch-size must be <= 64 for 'retrieval'",
    ),
    "two values in a row": (
        lambda served: good(served, user_id=(served.id_type, served.ids([served.stranger] * 4)[1].reshape(2, 2))),
        r"shape for input 'user_id'.*Expected \[-1,1\], got \[2,2\]",
    ),
}


def without_traceback(message: str) -> str:
    """Return the message, which must not show the server's inside."""
    assert not re.search(r"Traceback|\bAt:|\.py\b|\n|execute\(", message), message
    return message


@pytest.mark.parametrize(
    ("case", "model"),
    [
        *((case, FUSED) for case in (*BAD_FOR_THE_MODEL, *BAD_FOR_TRITON)),
        *((case, CHAINED) for case in BAD_FOR_THE_CHAIN),
    ],
)
def test_bad_input_is_refused_by_name(
    case: str, model: str, served: Served, channel: Any, client: RetrievalClient
) -> None:
    make, message = {**(BAD_FOR_THE_MODEL if model == FUSED else BAD_FOR_THE_CHAIN), **BAD_FOR_TRITON}[case]
    with pytest.raises(InferenceServerException) as raised:
        channel.infer(model, [tensor(name, *sent) for name, sent in make(served).items()])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT", raised.value
    error = without_traceback(str(raised.value.message()))
    assert re.search(message, error), error


@pytest.mark.parametrize("shape", [[1, 1], [2, 1], [2**20, 1], [-1, 1], [1]])
def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_refused(
    shape: list[int], served: Served, channel: Any, client: RetrievalClient
) -> None:
    broken = grpc.InferInput("user_id", shape, served.id_type)
    broken._raw_content = b"\x02\x00\x00"  # as another client's bug would
    with pytest.raises(InferenceServerException) as raised:
        channel.infer("retrieval", [broken])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT", raised.value
    without_traceback(str(raised.value.message()))


def test_an_unknown_user_is_served_as_unseen_and_flagged(served: Served, client: RetrievalClient) -> None:
    known, unknown = client.recommend([served.users[0], served.stranger], top_k=10)
    assert known.user_known
    assert not unknown.user_known
    assert len(set(unknown.item_ids)) == 10
    assert np.isfinite(unknown.scores).all()


def test_a_string_never_seen_is_served_as_unseen(served: Served, client: RetrievalClient) -> None:
    never, empty, known = client.recommend(
        served.users[:1] * 3, top_k=5, columns={"occupation": ["höchst unbekannt", "", "学生"]}
    )
    assert never == empty
    assert never.scores != known.scores


def test_a_top_k_larger_than_the_catalogue_is_answered_with_what_there_is(
    served: Served, client: RetrievalClient
) -> None:
    catalogue = set(served.run.items["item_id"])
    assert len(catalogue) < MAX_TOP_K
    users = [served.stranger, served.users[0]]
    stranger, known = client.recommend(users, top_k=MAX_TOP_K)
    assert set(stranger.item_ids) == catalogue
    assert len(stranger.item_ids) == len(stranger.scores) == len(catalogue)
    assert set(known.item_ids) < catalogue
    assert set(client.recommend(users, top_k=MAX_TOP_K, include_seen=True)[1].item_ids) == catalogue


def test_the_client_turns_a_refusal_into_invalid_request_and_says_which_row(
    served: Served, client: RetrievalClient
) -> None:
    ages = [20.0] * 70 + [float("nan")] * 30
    with pytest.raises(InvalidRequest, match=r"^column 'age', row 6: got nan.*counted from row 64"):
        client.recommend([served.stranger] * 100, top_k=5, columns={"age": ages})


def test_bad_requests_in_a_batch_fail_alone(served: Served, channel: Any, client: RetrievalClient) -> None:
    filters = dict(zip(served.users[:40], itertools.cycle(GOOD_FILTERS)))
    expected = {user: client.recommend([user], top_k=5, filters=[filter_])[0] for user, filter_ in filters.items()}
    bad = [make(served) for make, _ in BAD_FOR_THE_MODEL.values()]
    executions = _executions(channel)
    answers, refused = [], []
    for turn in range(5):
        for number, user in enumerate(expected):
            answers.append((user, _send(channel, _right(client, user, 5 + (number + turn) % 3, filters[user]))))
            refused.append(_send(channel, bad[number % len(bad)]))
    for user, answer in answers:
        result = answer.result(timeout=60)
        ids = [raw.decode() if isinstance(raw, bytes) else raw for raw in result.as_numpy("item_id")[0, :5].tolist()]
        assert ids == expected[user].item_ids
        np.testing.assert_allclose(result.as_numpy("score")[0, :5], expected[user].scores, rtol=0, atol=1e-5)
    for answer in refused:
        error = answer.exception(timeout=60)
        assert isinstance(error, InferenceServerException)
        assert error.status() == "StatusCode.INVALID_ARGUMENT", error
        assert "column '" in without_traceback(str(error.message()))
    assert _executions(channel) - executions < len(answers) + len(refused), "nothing was executed together"


def test_a_step_refuses_what_no_other_step_makes(channel: Any, client: RetrievalClient) -> None:
    """The steps of the chained layout are models that anybody may ask."""
    width, dim = (_width(channel, *step) for step in ((TOWER, "features"), (SEARCH, "vector")))
    noise = np.random.default_rng(1).integers(0, 256, (2, width), dtype=np.uint8)
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.* features: not such as"):
        channel.infer(TOWER, [tensor("features", "UINT8", noise)])
    vector = tensor("vector", "FP32", np.ones((1, dim), dtype=np.float32))
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.* user_row: got 99999, expected 0 to \d+"):
        channel.infer(SEARCH, [vector, tensor("user_row", "INT64", np.array([[99_999]]))])


def test_large_requests_that_are_refused_leave_no_memory_behind(served: Served, channel: Any) -> None:
    """A refusal's traceback held the arrays of its request until Python's collector came by."""
    if served.id_type == "BYTES":
        pytest.skip("one type of ids is enough")
    stubs = [
        child for child in psutil.Process(served.server.process_id).children(True) if f"/{FUSED}/" in _command(child)
    ]
    (stub,) = stubs
    large = [tensor(name, *sent) for name, sent in good(served, exclude_item_ids=served.no_items(2, 1 << 19)).items()]
    memory = []
    for _ in range(8):
        with pytest.raises(InferenceServerException, match="expected at most"):
            channel.infer(FUSED, large)
        memory.append(stub.memory_full_info().pss)
    # The answer comes before the process lets go of the request, so the last one may still be held for a moment.
    until(lambda: stub.memory_full_info().pss - memory[1] < 16e6, memory)


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def _width(channel: Any, model: str, name: str) -> int:
    inputs = channel.get_model_config(model, as_json=True)["config"]["input"]
    return next(int(entry["dims"][0]) for entry in inputs if entry["name"] == name)


def _right(client: RetrievalClient, user: Any, top_k: int, filter_: Filter | None) -> Inputs:
    signature, query = client.signature(), Query([user], top_k, filters=[filter_])
    return {name: (signature.inputs[name], array) for name, array in tensors(signature, query).items()}


def _send(channel: Any, inputs: Inputs) -> Future[Any]:
    """Send without waiting, so that Triton queues it beside the others."""
    future: Future[Any] = Future()

    def done(result: Any, error: InferenceServerException | None) -> None:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    channel.async_infer("retrieval", [tensor(name, *sent) for name, sent in inputs.items()], done)
    return future


def _executions(channel: Any) -> int:
    statistics = channel.get_inference_statistics("retrieval", as_json=True)["model_stats"]
    return sum(int(version.get("execution_count", 0)) for version in statistics)
