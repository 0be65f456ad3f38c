"""What is on the wire: JSON that every parser reads, in both protocols, both layouts, with a ranker and without."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as grpc

from ensemble.layouts import CHAINED, FUSED
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.triton.tensors import NO_SCORE
from ensemble.triton.export import export_repository
from tests.served import Served, int32, tensor, texts
from tests.synthetic import DIM, make_release, make_run

pytestmark = pytest.mark.server

MODELS = (FUSED, CHAINED)
LOWEST = np.finfo(np.float32).min


def post(server: TritonServer, model: str, body: bytes, status: int = 200) -> bytes:
    """Ask over HTTP and return the answer, which has to be of that status."""
    connection = HTTPConnection(server.addresses.host, server.addresses.http_port, timeout=30)
    with closing(connection):
        connection.request("POST", f"/v2/models/{model}/infer", body)
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == status, content
    return content


def body_of(**inputs: tuple[str, list[Any]]) -> bytes:
    """Return a JSON request; each input is its type and a value per row."""
    described = [
        {"name": name, "datatype": kind, "shape": [len(values), 1], "data": values}
        for name, (kind, values) in inputs.items()
    ]
    return json.dumps({"inputs": described}).encode()


def strictly(answer: bytes) -> dict[str, Any]:
    """Parse an answer as JSON has it, in node too where that is installed, and return the outputs by name."""
    if shutil.which("node"):
        script = "JSON.parse(require('fs').readFileSync(0, 'utf8'))"
        subprocess.run(["node", "-e", script], input=answer, check=True)
    outputs: list[dict[str, Any]] = msgspec.json.decode(answer)["outputs"]
    assert {output["datatype"] for output in outputs if "score" in output["name"]} == {"FP32"}
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in outputs}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server, both layouts, of a release that ranks."""
    place = tmp_path_factory.mktemp("ranked")
    repository = export_repository(make_release(make_run(place), ranks=True), place / "triton", "both")
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    with TritonServer(repository, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port) as server:
        yield server


def assert_padded(outputs: dict[str, Any], short: int) -> None:
    """Row 0 has nothing, row 1 less than it is wide."""
    counts, scores, width = outputs["count"][:, 0].tolist(), outputs["score"], outputs["score"].shape[1]
    assert counts == [0, short]
    assert width > short
    assert np.isfinite(scores).all()
    for row, count in enumerate(counts):
        assert (scores[row, count:] == LOWEST).all()
        assert set(outputs["item_id"][row, count:].tolist()) <= {0, "", b""}
        assert (scores[row, :count] > -100).all()


@pytest.mark.parametrize("model", MODELS)
def test_short_rows_are_finite_in_both_protocols(served: Served, model: str) -> None:
    users, filters = served.users[:2], ['{"allow": []}', ""]
    answer = post(
        served.server,
        model,
        body_of(user_id=(served.id_type, users), top_k=("INT32", [9, 3]), filter=("BYTES", filters)),
    )
    assert_padded(strictly(answer), 3)
    inputs = {"user_id": served.ids(users), "top_k": int32(9, 3), "filter": texts(b'{"allow": []}', b"")}
    with grpc.InferenceServerClient(served.address) as client:
        result = client.infer(model, [tensor(name, *sent) for name, sent in inputs.items()])
    assert result.as_numpy("score").dtype == np.float32
    assert_padded({name: result.as_numpy(name) for name in ("item_id", "score", "count")}, 3)


@pytest.mark.parametrize("model", MODELS)
def test_short_rows_of_a_ranker_are_finite(ranked: TritonServer, model: str) -> None:
    filters = ['{"min_score": 1e30}', ""]
    body = body_of(user_id=("INT64", [-1, -2]), top_k=("INT32", [9, 3]), filter=("BYTES", filters))
    assert_padded(strictly(post(ranked, model, body)), 3)


def test_what_a_ranker_is_handed_is_finite(ranked: TritonServer) -> None:
    """The models within answer over HTTP, too: of rows without a least score, and of a vector whose scores overflow."""
    dim = DIM
    body = {
        "inputs": [
            {"name": "vector", "datatype": "FP32", "shape": [2, dim], "data": [0.1] * (2 * dim)},
            {"name": "user_row", "datatype": "INT64", "shape": [2, 1], "data": [-1, -1]},
            {"name": "filter", "datatype": "BYTES", "shape": [2, 1], "data": ["", '{"deny": []}']},
        ]
    }
    outputs = strictly(post(ranked, "retrieval_search", json.dumps(body).encode()))
    assert (outputs["least_score"] == LOWEST).all()
    body["inputs"][0]["data"] = [1e38] * (2 * dim)
    assert b"no finite vector" in post(ranked, "retrieval_search", json.dumps(body).encode(), 400)
    assert NO_SCORE == LOWEST


def test_a_least_score_beyond_float32_is_handed_on_as_a_number(ranked: TritonServer) -> None:
    filters = ['{"min_score": -1e200}', '{"min_score": 1e200}']
    inputs = [
        {"name": "vector", "datatype": "FP32", "shape": [2, DIM], "data": [0.1] * (2 * DIM)},
        {"name": "user_row", "datatype": "INT64", "shape": [2, 1], "data": [-1, -1]},
        {"name": "filter", "datatype": "BYTES", "shape": [2, 1], "data": filters},
    ]
    outputs = strictly(post(ranked, "retrieval_search", json.dumps({"inputs": inputs}).encode()))
    assert outputs["least_score"][:, 0].tolist() == pytest.approx([float(LOWEST), -float(LOWEST)])
    body = body_of(user_id=("INT64", [-1, -2]), filter=("BYTES", filters))
    assert strictly(post(ranked, CHAINED, body))["count"].tolist() == [[10], [0]]


def test_features_of_which_the_tower_makes_no_finite_vector_are_refused(ranked: TritonServer) -> None:
    """It answers over HTTP, too, to whoever asks it and not the ensemble."""
    with grpc.InferenceServerClient(ranked.addresses.grpc) as client:
        (stated,) = client.get_model_metadata("retrieval_tower").inputs
    for number in (np.nan, np.inf, 3e38):
        packed = np.full(int(stated.shape[1]), 0, dtype=np.uint8)
        packed[8:12] = np.frombuffer(np.float32(number).tobytes(), np.uint8)  # the age, after the user
        tensors = [{"name": "features", "datatype": "UINT8", "shape": [1, len(packed)], "data": packed.tolist()}]
        assert b"no finite vector" in post(ranked, "retrieval_tower", json.dumps({"inputs": tensors}).encode(), 400)


def test_what_triton_makes_of_wrong_json_is_as_told(served: Served) -> None:
    """Its own answers, described in docs/client.md: the model never sees these requests as they were sent."""
    users = (served.id_type, served.users[:1])
    for body in (b'{"inputs": [', b"{}", body_of(user_id=users, top_k=("INT32", ["4"]))):
        post(served.server, FUSED, body, 500)
    wrapped = post(served.server, FUSED, body_of(user_id=users, top_k=("INT32", [2**32 + 4])))
    assert strictly(wrapped)["count"].tolist() == [[4]]
    beyond = post(served.server, FUSED, body_of(user_id=users, top_k=("INT32", [2**31])), 400)
    assert b"column 'top_k', row 0: got -2147483648" in beyond


def test_a_timeout_of_the_request_counts_for_nothing_without_a_queue_policy(served: Served, channel: Any) -> None:
    result = channel.infer(FUSED, [tensor("user_id", *served.ids(served.users[:1]))], timeout=1)  # a microsecond
    assert result.as_numpy("count").tolist() == [[10]]
