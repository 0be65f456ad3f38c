"""The chained models answer whoever asks them: what does not come from the step before is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.layouts import CHAINED, RANK, SEARCH
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.triton.export import export_repository
from tests.served import int32, tensor
from tests.synthetic import DIM, make_release, make_run

pytestmark = pytest.mark.server

ITEMS, USERS, ROWS = 300, 60, 64
Inputs = dict[str, tuple[str, np.ndarray]]


class Chain:
    """A running chain with a ranker, and the bytes of its features."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        (width,) = (entry.shape[1] for entry in channel.get_model_metadata(RANK).inputs if entry.name == "features")
        self._features = int(width)

    def ask(self, model: str, inputs: Inputs) -> Any:
        return self._channel.infer(model, [tensor(name, *sent) for name, sent in inputs.items()])

    def refusal(self, model: str, inputs: Inputs) -> str:
        """Return why a request is refused, which has to be its own fault."""
        with pytest.raises(InferenceServerException) as caught:
            self.ask(model, inputs)
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT", caught.value
        return str(caught.value.message())

    def ranking(self, candidates: np.ndarray, top_k: int = 5) -> Inputs:
        """Return a request to the ranker."""
        rows = len(candidates)
        return {
            "features": ("UINT8", np.zeros((rows, self._features), dtype=np.uint8)),
            "vector": ("FP32", np.full((rows, DIM), 0.1, dtype=np.float32)),
            "candidates": ("INT64", candidates),
            "least_score": ("FP32", np.full((rows, 1), -1e30, dtype=np.float32)),
            "top_k": int32(*[top_k] * rows),
        }

    def search(self, user_rows: list[int]) -> Inputs:
        """Return a request to the search."""
        vectors = np.full((len(user_rows), DIM), 0.1, dtype=np.float32)
        return {"vector": ("FP32", vectors), "user_row": ("INT64", np.array(user_rows)[:, None])}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    place = tmp_path_factory.mktemp("inner")
    release = make_release(make_run(place, items=ITEMS), ranks=True, max_request_milliseconds=150)
    repository = export_repository(release, place / "triton", "both")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with (
        TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as server,
        grpc.InferenceServerClient(server.addresses.grpc) as channel,
    ):
        yield Chain(channel)


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("row", [-2, -(10**9), -(2**63), USERS, 2**63 - 1])
def test_a_row_of_no_user_is_refused_in_batches_of_every_size(chain: Chain, rows: int, row: int) -> None:
    message = chain.refusal(SEARCH, chain.search([0] * (rows - 1) + [row]))
    assert re.search(rf"user_row: got {row}, expected 0 to {USERS - 1}, or -1", message), message
    chain.ask(SEARCH, chain.search([-1] * rows))


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([[5, 6, -2]], "got -2 to 6"),
        ([[5, ITEMS, -1]], f"got -1 to {ITEMS}"),
        ([[5, 6, 7], [-1, 5, -1]], "row 1: got -1 before another one"),
    ],
)
def test_candidates_that_no_search_hands_on_are_refused(chain: Chain, candidates: list[Any], message: str) -> None:
    assert message in chain.refusal(RANK, chain.ranking(np.array(candidates)))
    answer = chain.ask(RANK, chain.ranking(np.array([[5, 6, -1], [-1, -1, -1]])))
    assert answer.as_numpy("count")[:, 0].tolist() == [2, 0]


def test_a_ranker_that_is_asked_by_itself_has_the_budget_of_the_chain(chain: Chain) -> None:
    candidates = np.tile(np.arange(ITEMS), (ROWS, 1))
    users: Inputs = {"user_id": ("INT64", np.full((ROWS, 1), -1)), "top_k": int32(*[ITEMS] * ROWS)}
    for model, inputs in ((CHAINED, users), (RANK, chain.ranking(candidates, ITEMS))):
        assert "more than the 150 ms that it may" in chain.refusal(model, inputs)
    assert chain.ask(RANK, chain.ranking(candidates[:4], ITEMS)).as_numpy("count").tolist() == [[ITEMS]] * 4
