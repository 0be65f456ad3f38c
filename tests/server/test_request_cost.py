"""What a real server does with requests that would take too long: those are refused, their neighbours answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

from ensemble.layouts import CHAINED, FUSED
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.triton.export import export_repository
from tests.served import tensor
from tests.synthetic import make_release, make_run

ROWS, LIMIT = 64, 200


class Server:
    """A running server, and the ids of its items."""

    def __init__(self, channel: Any, ids: list[int]) -> None:
        self.channel, self.ids = channel, ids

    def send(self, model: str, filters: list[str]) -> Future[Any]:
        """Send a request of one row per filter."""
        inputs = [tensor("user_id", "INT64", np.full((len(filters), 1), -1))]
        texts = np.array([[text.encode()] for text in filters], dtype=object)
        inputs.append(tensor("filter", "BYTES", texts))
        done: Future[Any] = Future()
        self.channel.async_infer(model, inputs, lambda result, error: done.set_result((result, error)))
        return done

    def long(self, row: int) -> str:
        """Return a filter that is within every limit and takes some milliseconds."""
        return json.dumps({"allow": self.ids[row:] * 4})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a release whose requests may take little."""
    place = tmp_path_factory.mktemp("cost")
    run = make_run(place, items=1000)
    release = make_release(run, layout="both", max_request_milliseconds=LIMIT)
    repository = export_repository(release, place / "triton")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with (
        TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as started,
        grpc.InferenceServerClient(started.addresses.grpc) as channel,
    ):
        yield Server(channel, run.items["item_id"].tolist())


@pytest.mark.server
@pytest.mark.parametrize("model", [FUSED, CHAINED])
def test_a_request_that_takes_too_long_is_refused_with_the_numbers(server: Server, model: str) -> None:
    _, error = server.send(model, [server.long(row) for row in range(ROWS)]).result(timeout=60)
    assert "INVALID_ARGUMENT" in str(error.status())
    assert f"more than the {LIMIT} ms that it may" in error.message()
    assert "fewer rows" in error.message()
    answer, error = server.send(model, [server.long(0)]).result(timeout=60)
    assert error is None, error
    assert answer.as_numpy("count").tolist() == [[10]]


@pytest.mark.server
@pytest.mark.parametrize("model", [FUSED, CHAINED])
def test_neighbours_of_what_is_refused_are_answered(server: Server, model: str) -> None:
    plain = [json.dumps({"allow": server.ids[row : row + 5]}) for row in range(60)]
    sent = [server.send(model, [text]) for text in plain[:30]]
    wrong = server.send(model, ['{"alow": []}'])
    much = server.send(model, [server.long(row) for row in range(ROWS)])
    sent += [server.send(model, [text]) for text in plain[30:]]
    assert "unknown key 'alow'" in wrong.result(timeout=60)[1].message()
    assert f"more than the {LIMIT} ms" in much.result(timeout=60)[1].message()
    for text, future in zip(plain, sent, strict=True):
        answer, error = future.result(timeout=60)
        # Those that came last are told to ask again where the others took all of the time.
        if error is not None:
            assert "UNAVAILABLE" in str(error.status())
            continue
        assert sorted(answer.as_numpy("item_id")[0, :5].tolist()) == sorted(json.loads(text)["allow"])
