"""The examples of docs/client.md, as they stand there, against a real server."""

from __future__ import annotations

import html
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ensemble.client import RetrievalClient
from ensemble.client.filters import Filter, TagTest
from ensemble.server.ports import free_ports
from retrieval.explore.app import Server, create_app
from tests.served import Served
from tests.waiting import until

pytestmark = pytest.mark.server

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def numbers(served: Served) -> Served:
    if served.id_type == "BYTES":
        pytest.skip("the examples ask for integer ids")
    return served


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_python_examples_run(numbers: Served, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[number], f"docs/client.md, block {number}", "exec"), {"ADDRESS": numbers.address})
    assert re.search(r"\[\d+", capsys.readouterr().out.replace("(", "")), "it prints no item ids"


def test_the_json_request_for_grpcurl_is_answered(numbers: Served) -> None:
    (body,) = re.findall(r"<<'JSON'\n(.*?)\nJSON\n", TEXT, flags=re.DOTALL)
    request = json_format.Parse(body, service_pb2.ModelInferRequest())
    with grpc.insecure_channel(numbers.address) as channel:
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    buffers = dict(zip((tensor.name for tensor in answer.outputs), answer.raw_output_contents, strict=True))
    with RetrievalClient(numbers.address) as client:
        (expected,) = client.recommend([196], top_k=10)
    assert np.frombuffer(buffers["item_id"], "<i8").tolist() == expected.item_ids
    assert np.frombuffer(buffers["score"], "<f4").tolist() == expected.scores
    assert np.frombuffer(buffers["count"], "<i4").tolist() == [10]
    assert buffers["release"][4:].decode() == expected.release


def test_the_http_request_for_curl_is_answered(numbers: Served) -> None:
    (body,) = re.findall(r"/infer -d '(.*?)'\n", TEXT, flags=re.DOTALL)
    place = numbers.server.addresses
    url = f"http://{place.host}:{place.http_port}/v2/models/retrieval/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=10) as answer:
        outputs = {tensor["name"]: tensor["data"] for tensor in json.loads(answer.read())["outputs"]}
    with RetrievalClient(numbers.address) as client:
        (expected,) = client.recommend([196], top_k=10)
    assert outputs["item_id"] == expected.item_ids


def test_every_tensor_of_the_model_is_in_the_tables(served: Served, client: RetrievalClient) -> None:
    signature = client.signature()
    documented = set(re.findall(r"`(\w+)`", TEXT))
    columns = set(served.run.users.columns) - {"user_id"}
    assert {*signature.inputs, *signature.outputs} - columns <= documented


def test_the_explorer_asks_the_server_and_its_requests_to_copy_do_the_same(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    user, place = served.users[3], served.server.addresses
    pages = create_app([served.run.path], Server(served.address)).test_client()
    pages.get("/user?token=a+token")
    page = pages.get("/user", query_string={"user": user, "top_k": 5, "any.genres": "Drama", "col.age": 33})
    text = page.get_data(as_text=True)
    with RetrievalClient(served.address) as client:
        filters = [Filter(tags={"genres": TagTest(any=["Drama"])})]
        (expected,) = client.recommend([user], top_k=5, columns={"age": [33.0]}, filters=filters)
    assert re.findall(r'data-item="(.*?)" data-score="(.*?)"', text) == [
        (str(item), str(score)) for item, score in zip(expected.item_ids, expected.scores, strict=True)
    ]
    python, tritonclient, body = map(html.unescape, re.findall(r"<pre.*?>(.*?)</pre>", text, flags=re.DOTALL))
    exec(compile(python, "Python", "exec"), {})
    assert capsys.readouterr().out.startswith(f"{expected.item_ids} ")
    exec(compile(tritonclient, "tritonclient", "exec"), values := {})
    assert values["answer"].as_numpy("score").ravel().tolist() == expected.scores
    url = f"http://{place.host}:{place.http_port}/v2/models/retrieval/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=10) as answer:
        outputs = {tensor["name"]: tensor["data"] for tensor in json.loads(answer.read())["outputs"]}
    assert outputs["item_id"] == expected.item_ids
    assert ">healthy<" in pages.get("/serving").get_data(as_text=True)


def test_the_explorer_says_that_the_server_went_away_and_goes_on_when_it_is_back(served: Served) -> None:
    user, [port] = served.users[3], free_ports("127.0.0.1", 1)
    pages = create_app([served.run.path], Server(f"127.0.0.1:{port}")).test_client()

    def page() -> str:
        return pages.get("/user", query_string={"user": user}).get_data(as_text=True)

    for _ in range(2):
        with passed_on(port, served.address):
            until(lambda: "data-item=" in page(), "an answer, once gRPC has tried the address again")
        gone = page()
        assert 'role="alert" data-retry="3000"' in gone, "it looks again by itself"
        assert "data-item=" not in gone.partition('id="answer"')[2].partition("</section>")[0]


@contextmanager
def passed_on(port: int, address: str) -> Iterator[None]:
    """Pass on what reaches a port to an address inside the block; afterwards nobody listens, and all is cut off."""
    listener, cut = socket.create_server(("127.0.0.1", port)), list[socket.socket]()
    host, _, target_port = address.rpartition(":")

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)

    def accept() -> None:
        with suppress(OSError):
            while True:
                ends = listener.accept()[0], socket.create_connection((host, int(target_port)))
                cut.extend(ends)
                for pair in (ends, ends[::-1]):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for end in cut:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
