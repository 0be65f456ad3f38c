"""The client for Node of docs/clients, as it lies there, against a real server."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from ensemble.client import RetrievalClient
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.triton.export import export_repository
from ensemble.triton.find import cache_directory
from tests.synthetic import Run, make_release, make_run
from workflows.files import atomic_directory

CLIENTS = Path(__file__).parents[2] / "docs" / "clients"
ROWS, WIDTH = 64, 10_000
"""An answer of 64 x 10,000 places, each of 8 bytes or more: above the 4 MiB that a gRPC client takes by default."""


def fields_of(proto: str) -> Iterator[tuple[str, str, int]]:
    """Yield message, name and number of every field."""
    names: list[str] = []
    for line in proto.splitlines():
        if opened := re.match(r"\s*(message|oneof|service) (\w+) {", line):
            names.append(opened[2] if opened[1] == "message" else "")
        elif line.strip() == "}":
            names.pop()
        elif field := re.match(r"\s+.* (\w+) = (\d+);", line):
            yield ".".join(filter(None, names)), field[1], int(field[2])


def test_the_proto_file_is_a_part_of_tritons() -> None:
    fields = list(fields_of((CLIENTS / "inference.proto").read_text(encoding="utf-8")))
    assert len(fields) == 19
    for message, name, number in fields:
        descriptor = service_pb2.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{message}")
        assert descriptor.fields_by_name[name].number == number, f"{message}.{name}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the client and what it imports."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not installed; Debian has them as `nodejs` and `npm`")
    key = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()[:16]
    installed = cache_directory() / "node" / key
    if not installed.exists():
        with atomic_directory(installed) as temporary:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(CLIENTS / name, temporary)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=temporary, check=True)
    place = Path(shutil.copytree(CLIENTS, tmp_path_factory.mktemp("node") / "clients"))
    (place / "node_modules").symlink_to(installed / "node_modules")
    return place


@pytest.fixture(scope="module", params=["large", "string"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, str]]:
    """A run, and the address of a server that answers with up to 10,000 places a row."""
    run = make_run(tmp_path_factory.mktemp("wide"), request.param)
    repository = export_repository(make_release(run, max_top_k=WIDTH), run.path / "triton")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as server:
        yield run, server.addresses.grpc


def asked(node: Path, address: str, top_k: int, users: list[Any]) -> list[dict[str, Any]]:
    """Run the client and return the rows that it prints."""
    text = ["--text"] if isinstance(users[0], str) else []
    command = ["node", node / "client.mjs", address, str(top_k), *text, *map(str, users)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.server
@pytest.mark.parametrize("top_k", [10, WIDTH])
def test_node_gets_what_python_gets(node: Path, wide: tuple[Run, str], top_k: int) -> None:
    run, address = wide
    users = run.users["user_id"].tolist()
    users = (users * ROWS)[:ROWS]
    answers = asked(node, address, top_k, users)
    with RetrievalClient(address) as client:
        expected = client.recommend(users, top_k=top_k)
    assert [answer["itemIds"] for answer in answers] == [list(map(str, answer.item_ids)) for answer in expected]
    assert [answer["scores"] for answer in answers] == [answer.scores for answer in expected]
    assert {answer["release"] for answer in answers} == {expected[0].release}
    assert all(answer["userKnown"] for answer in answers)
    if isinstance(users[0], int):
        assert max(int(item) for answer in answers for item in answer["itemIds"]) > 2**53


@pytest.mark.server
def test_such_an_answer_is_above_what_a_client_takes_unless_told(wide: tuple[Run, str]) -> None:
    """Why the client sets the option."""
    run, address = wide
    data_type = "BYTES" if run.users["user_id"].dtype == object else "INT64"
    request = service_pb2.ModelInferRequest(model_name="retrieval")
    users = np.array([run.users["user_id"].iloc[0]] * ROWS, dtype=object if data_type == "BYTES" else np.int64)
    for name, kind, values in (
        ("user_id", data_type, users),
        ("top_k", "INT32", np.full(ROWS, WIDTH, dtype=np.int32)),
    ):
        tensor = triton.InferInput(name, [ROWS, 1], kind)
        tensor.set_data_from_numpy(values[:, None])
        request.inputs.append(tensor._get_tensor())
        request.raw_input_contents.append(tensor._get_content())
    call = "/inference.GRPCInferenceService/ModelInfer"
    with grpc.insecure_channel(address) as channel:
        plain = channel.unary_unary(call, service_pb2.ModelInferRequest.SerializeToString)
        with pytest.raises(grpc.RpcError) as caught:
            plain(request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
