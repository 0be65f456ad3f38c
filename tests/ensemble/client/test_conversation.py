"""When a client asks again, how long it waits, and what it makes of each failure; the clients only carry it out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from ensemble.client.retry import AskConfig, DeadlineExceeded, Infer, Pause, Peer, Unavailable, ask
from ensemble.client.tensors import ClientError, InvalidRequest, Query

CONFIG = {
    "name": "retrieval",
    "max_batch_size": 2,
    "input": [{"name": "user_id", "data_type": "TYPE_INT64"}],
    "output": [{"name": name} for name in ("item_id", "score", "count", "user_known", "release")],
}
KINDS = [
    ("UNAVAILABLE", "connection refused", Unavailable, True),
    ("RESOURCE_EXHAUSTED", "queue is full", Unavailable, True),
    ("UNAVAILABLE", "Request timeout expired", DeadlineExceeded, False),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded, False),
    ("NOT_FOUND", "unknown model", Unavailable, False),
    ("INVALID_ARGUMENT", "column 'top_k', row 0", InvalidRequest, False),
    ("INTERNAL", "internal error", ClientError, False),
    ("CANCELLED", "CANCELLED", Unavailable, True),  # it stops, and had not begun with it
    ("NOT_FOUND", "Request for unknown model: 'retrieval' has no available versions", Unavailable, True),  # it stops
    ("INVALID_ARGUMENT", "incomplete string data for inference input 'filter'", Unavailable, True),  # a neighbour's
    ("INTERNAL", "Stub process 'retrieval_0_0' is not healthy.", Unavailable, True),  # it died under the request
]


class Answer:
    """What an inference of `rows` rows returned."""

    def __init__(self, rows: int) -> None:
        self.arrays = {
            "item_id": np.full((rows, 1), 7),
            "score": np.ones((rows, 1), np.float32),
            "count": np.ones((rows, 1), np.int32),
            "user_known": np.ones((rows, 1), bool),
            "release": np.full((rows, 1), b"abc+2", object),
        }

    def as_numpy(self, name: str) -> np.ndarray:
        return self.arrays[name]


def hold(peer: Peer, query: Query, failures: list[InferenceServerException]) -> tuple[list[Any], list[Any]]:
    """Carry a conversation out with a server that fails first; return the steps and the answers."""
    conversation, steps = ask(peer, query), []
    step = next(conversation)
    try:
        while True:
            steps.append(step)
            if isinstance(step, Pause):
                step = conversation.send(None)
            elif failures:
                step = conversation.throw(failures.pop(0))
            else:
                reply = {"config": CONFIG} if isinstance(step, AskConfig) else Answer(step.inputs[0].shape()[0])
                step = conversation.send(reply)
    except StopIteration as end:
        return steps, end.value


def failure(status: str, message: str) -> InferenceServerException:
    return InferenceServerException(message, status=f"StatusCode.{status}")


@pytest.mark.parametrize(("status", "message", "kind", "again"), KINDS)
def test_only_what_the_server_did_not_take_on_is_asked_again(
    status: str, message: str, kind: type[ClientError], again: bool
) -> None:
    failures = [failure(status, message)] * 2
    if again:
        steps, answers = hold(Peer(retries=2), Query([1]), failures)
        assert [type(step) for step in steps] == [AskConfig, Pause, AskConfig, Pause, AskConfig, Infer]
        assert answers[0].item_ids == [7]
    else:
        with pytest.raises(kind) as raised:
            hold(Peer(retries=2), Query([1]), failures)
        assert type(raised.value) is kind
        assert len(failures) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_server_that_stays_away_is_asked_as_often_as_was_said(retries: int) -> None:
    failures = [failure("UNAVAILABLE", "connection refused")] * 9
    with pytest.raises(Unavailable, match="connection refused"):
        hold(Peer(retries=retries), Query([1]), failures)
    assert len(failures) == 9 - (retries + 1)


@given(timeout_s=st.floats(0.001, 5), backoff_s=st.floats(0.01, 100), retries=st.integers(0, 8))
def test_no_pause_ends_after_the_deadline(timeout_s: float, backoff_s: float, retries: int) -> None:
    before = time.monotonic()
    conversation = ask(Peer(timeout_s=timeout_s, backoff_s=backoff_s, retries=retries), Query([1]))
    step: Any = next(conversation)
    assert step.seconds <= timeout_s
    try:
        for attempt in range(retries):
            step = conversation.throw(failure("UNAVAILABLE", "queue is full"))
            assert isinstance(step, Pause)
            assert step.seconds <= backoff_s * 2**attempt
            assert time.monotonic() + step.seconds <= before + timeout_s + 1
            step = conversation.send(None)
            assert 0 < step.seconds <= timeout_s
    except Unavailable:
        pass


def test_the_server_is_told_the_deadline_and_one_deadline_holds_for_all_requests_of_a_call() -> None:
    steps, answers = hold(Peer(timeout_s=3), Query([1, 2, 3, 4, 5]), [])
    requests = [step for step in steps if isinstance(step, Infer)]
    assert [step.inputs[0].shape() for step in requests] == [[2, 1], [2, 1], [1, 1]]
    left = [step.seconds for step in requests]
    assert 3 >= left[0] >= left[1] >= left[2] > 0
    assert [step.options()["timeout"] for step in requests] == [int(seconds * 1e6) for seconds in left]
    assert [answer.release for answer in answers] == ["abc+2"] * 5


def test_the_signature_is_asked_for_once() -> None:
    peer = Peer()
    hold(peer, Query([1]), [])
    steps, _ = hold(peer, Query([1]), [])
    assert [type(step) for step in steps] == [Infer]


@pytest.mark.parametrize(
    ("name", "value"), [("timeout_s", 0), ("timeout_s", float("nan")), ("backoff_s", -1), ("retries", -1)]
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: got"):
        Peer(**{name: value})
