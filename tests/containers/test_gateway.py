"""The gateway: a real Envoy with the configuration of containers/gateway, in front of a real Triton."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from ensemble.client import ClientError, InvalidRequest, RetrievalClient, Unavailable
from ensemble.client.aio import AsyncRetrievalClient
from ensemble.client.filters import Filter
from ensemble.client.retry import as_input
from ensemble.server.endpoints import KEY_HEADER
from ensemble.server.ports import free_ports
from ensemble.supervision.health import canary
from tests.containers.tools import CONTAINERS, TOOLS, documents, of_kind, pod_of, tool, versions
from tests.served import Served

GATEWAY = CONTAINERS / "gateway"
CONFIG = (GATEWAY / "envoy.yaml").read_text(encoding="utf-8")
SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
MANY = re.compile(r"max_tokens: \d+, tokens_per_fill: \d+")


def written(place: Path, ports: dict[int, int], config: str = CONFIG, script: Path = GATEWAY / "fields.lua") -> Path:
    """Write the configuration for other ports, on this machine alone."""
    for port, new in ports.items():
        assert f"port_value: {port}}}" in config
        config = config.replace(f"port_value: {port}}}", f"port_value: {new}}}")
    config = config.replace("/etc/envoy/fields.lua", str(script)).replace("0.0.0.0", "127.0.0.1")
    (place / "envoy.yaml").write_text(config, encoding="utf-8")
    return place / "envoy.yaml"


@contextmanager
def running(place: Path, upstream: int, config: str = CONFIG, **changed: Any) -> Iterator[str]:
    """Run Envoy before a port and yield its address."""
    port, admin = free_ports("127.0.0.1", 2)
    local = config.replace("address: triton", "address: 127.0.0.1").replace("STRICT_DNS", "STATIC")
    config_file = written(place, {8003: port, 8001: upstream, 9901: admin}, local, **changed)
    command = [TOOLS / "envoy", "-c", config_file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with (place / "envoy.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=60)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def complaints(config: Path) -> str:
    """Return what Envoy has against a configuration."""
    done = tool("envoy", "--mode", "validate", "-c", config, "-l", "warning")
    return "" if done.returncode == 0 and not done.stderr else done.stdout + done.stderr


def test_envoy_takes_the_configuration(tmp_path: Path) -> None:
    assert complaints(written(tmp_path, {})) == ""
    misspelt = written(tmp_path, {}, CONFIG.replace("max_request_bytes:", "max_request_byte:"))
    assert "max_request_byte" in complaints(misspelt)


def test_the_envoy_of_the_tests_is_that_of_the_images() -> None:
    (version,) = re.findall(r"/(\d+\.\d+\.\d+)/", tool("envoy", "--version").stdout)
    name, _, tag = versions()["GATEWAY_IMAGE"].partition(":")
    assert tag == f"distroless-v{version}"
    (base,) = documents((CONTAINERS / "kubernetes/base/kustomization.yaml").read_text(encoding="utf-8"))
    assert {"name": name, "newTag": tag} in base["images"]


(LISTENING,) = re.findall(r"0\.0\.0\.0, port_value: (\d+)", CONFIG)
(TRITON,) = re.findall(r"address: (\w+), port_value: 8001", CONFIG)


def test_compose_publishes_the_gateway_and_not_triton() -> None:
    (compose,) = documents((CONTAINERS / "compose.yaml").read_text(encoding="utf-8"))
    serve, gateway = (compose["services"][name] for name in ("serve", "gateway"))
    assert serve["ports"] == ["127.0.0.1:8002:8002"]
    assert serve["networks"]["default"]["aliases"] == [TRITON]
    assert gateway["ports"] == [f"127.0.0.1:8001:{LISTENING}"]
    assert {Path(volume.split(":")[0]).name for volume in gateway["volumes"]} == {"envoy.yaml", "fields.lua"}


@pytest.mark.parametrize("directory", ["volume", "object-storage"])
def test_pods_are_reached_through_the_gateway_alone(directory: str) -> None:
    triton, gateway = pod_of(of_kind(directory, "Deployment"))["containers"]
    assert triton["args"] == ["--grpc-address=127.0.0.1"]
    assert pod_of(of_kind(directory, "Deployment"))["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": [TRITON]}]
    assert [port["name"] for port in triton["ports"]] == ["metrics"]
    assert gateway["ports"] == [{"name": "grpc", "containerPort": int(LISTENING)}]
    assert gateway["image"] == versions()["GATEWAY_IMAGE"]
    data = of_kind(directory, "ConfigMap")["data"] if directory == "volume" else None
    assert data in (None, {name: (GATEWAY / name).read_text(encoding="utf-8") for name in ("envoy.yaml", "fields.lua")})
    waited = gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    (answering,) = re.findall(r"--exit-timeout-secs=(\d+)", (CONTAINERS / "serve.sh").read_text(encoding="utf-8"))
    assert waited > int(triton["lifecycle"]["preStop"]["exec"]["command"][1]) + int(answering)
    assert pod_of(of_kind(directory, "Deployment"))["terminationGracePeriodSeconds"] > waited


def request_of(change: Callable[[Any], object] = lambda request: None) -> bytes:
    """Return what our clients send for two rows, changed."""
    request = service_pb2.ModelInferRequest(model_name="retrieval", id="mine")
    request.parameters["timeout"].int64_param = 2_000_000
    for name, kind, values in (
        ("user_id", "INT64", np.array([[196], [2**62]])),
        ("top_k", "INT32", np.array([[3], [4]], dtype=np.int32)),
        ("exclude_item_ids", "INT64", np.zeros((2, 0), dtype=np.int64)),
        ("include_seen", "BOOL", np.array([[True], [False]])),
        ("filter", "BYTES", np.array([[b""], [b"{}"]], dtype=object)),
    ):
        tensor = as_input(name, kind, values)
        request.inputs.append(tensor._get_tensor())
        request.raw_input_contents.append(tensor._get_content())
    request.outputs.add().name = "item_id"
    change(request)
    return bytes(request.SerializeToString())


REFUSED: dict[str, Callable[[Any], object]] = {
    "a model within": lambda request: setattr(request, "model_name", "retrieval_search"),
    "a version": lambda request: setattr(request, "model_version", "1"),
    "another parameter": lambda request: request.parameters["other"].MergeFrom(request.parameters["timeout"]),
    "a timeout that is text": lambda request: setattr(request.parameters["timeout"], "string_param", "1"),
    "a parameter of an input": lambda request: setattr(request.inputs[0].parameters["other"], "int64_param", 1),
    "a parameter of an output": lambda request: setattr(request.outputs[0].parameters["other"], "int64_param", 1),
    "values that are not raw": lambda request: request.inputs[0].contents.int64_contents.append(1),
    "another type": lambda request: setattr(request.inputs[0], "datatype", "FP16"),
    "a name that is none": lambda request: setattr(request.inputs[0], "name", "user\nid"),
    "three dimensions": lambda request: request.inputs[0].shape.append(1),
    "more rows than there can be": lambda request: request.inputs[2].shape.__setitem__(0, 2**34),
    "a negative width": lambda request: request.inputs[0].shape.__setitem__(1, -1),
    "more rows than values": lambda request: request.inputs[0].shape.__setitem__(0, 3),
    "more contents than inputs": lambda request: request.raw_input_contents.append(b""),
    "strings that are cut": lambda request: request.raw_input_contents.__setitem__(4, b"\x05\0\0\0ab\0\0\0\0"),
}


class Recorder(grpc.GenericRpcHandler):
    """Takes every call, and keeps what came."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, dict[str, str]]] = []

    def service(self, details: Any) -> Any:
        def answer(content: bytes, context: Any) -> bytes:
            self.came.append((content, dict(context.invocation_metadata())))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


class Recorded(NamedTuple):
    """A gateway, and what came through it."""

    channel: grpc.Channel
    came: list[tuple[bytes, dict[str, str]]]

    def status(self, content: bytes, call: str = INFER, **options: Any) -> str:
        """Send a message and return the status, with which nothing came through unless it is OK."""
        before = len(self.came)
        try:
            self.channel.unary_unary(call)(content, timeout=30, **options)
        except grpc.RpcError as error:
            assert len(self.came) == before
            return str(error.code().name)
        return "OK"


@contextmanager
def recording(place: Path, **changed: Any) -> Iterator[Recorded]:
    recorder, server = Recorder(), grpc.server(futures.ThreadPoolExecutor(4), options=UNLIMITED)
    server.add_generic_rpc_handlers((recorder,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with running(place, port, **changed) as address, grpc.insecure_channel(address, UNLIMITED) as channel:
            yield Recorded(channel, recorder.came)
    finally:
        server.stop(None)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A gateway without limits to the rate before what records."""
    config = MANY.sub("max_tokens: 100000, tokens_per_fill: 100000", CONFIG)
    with recording(tmp_path_factory.mktemp("recorded"), config=config) as recorder:
        yield recorder


def test_what_our_clients_send_goes_through_as_it_is_without_the_key(recorded: Recorded) -> None:
    content = request_of()
    headers = ((f"triton-grpc-protocol-{KEY_HEADER}", "k" * 32), ("grpc-accept-encoding", "gzip"))
    assert recorded.status(content, metadata=headers) == "OK"
    came, metadata = recorded.came[-1]
    assert came == content
    assert not {name for name, _ in headers} & set(metadata)
    config = service_pb2.ModelConfigRequest(name="retrieval_chained").SerializeToString()
    assert recorded.status(config, f"{SERVICE}/ModelConfig") == "OK"


@pytest.mark.parametrize("what", REFUSED)
def test_a_field_that_they_do_not_send_is_refused(recorded: Recorded, what: str) -> None:
    assert recorded.status(request_of(REFUSED[what])) == "PERMISSION_DENIED"


def test_calls_that_they_do_not_make_are_refused(recorded: Recorded) -> None:
    calls = [method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
    calls = sorted({*calls, "Unheard"} - {"ModelInfer", "ModelConfig"})
    assert {recorded.status(b"", f"{SERVICE}/{call}") for call in calls} == {"PERMISSION_DENIED"}
    assert recorded.status(request_of(), f"{INFER}/") == "PERMISSION_DENIED"


def test_frames_that_they_do_not_send_are_refused(recorded: Recorded) -> None:
    content = request_of()
    assert recorded.status(content, compression=grpc.Compression.Gzip) == "PERMISSION_DENIED"
    for frames in ([], [content, content]):
        with pytest.raises(grpc.RpcError) as caught:
            recorded.channel.stream_unary(INFER)(iter(frames), timeout=30)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_body_above_the_limit_is_refused(recorded: Recorded) -> None:
    def sized(count: int) -> bytes:
        def change(request: Any) -> None:
            request.inputs[0].shape[0], request.raw_input_contents[0] = count, b"\0" * (8 * count)

        return request_of(change)

    (limit,) = map(int, re.findall(r"max_request_bytes: (\d+)", CONFIG))
    assert recorded.status(sized(limit // 8 - 1000)) == "OK"
    assert recorded.status(sized(limit // 8)) == "UNKNOWN"


def test_what_goes_through_has_no_other_field_to_protobuf_either(recorded: Recorded) -> None:
    """Thousands of damaged messages: the gateway and protobuf never read one differently."""
    drawn, base, passed = random.Random(0), request_of(), 0
    refused = [request_of(change) for change in REFUSED.values()]
    for _ in range(2000):
        content = bytearray(base)
        for _ in range(drawn.randint(1, 3)):
            donor, place = drawn.choice([base, *refused]), drawn.randrange(len(content))
            start = drawn.randrange(len(donor))
            content[place : place + drawn.choice([0, 1, 2])] = donor[start : start + drawn.choice([0, 1, 1, 4, 30])]
        passed += recorded.status(bytes(content)) == "OK"
    assert passed > 50
    for content, _ in recorded.came:
        try:
            request = service_pb2.ModelInferRequest.FromString(content)
        except DecodeError:
            continue
        assert_only_admitted(request)


def assert_only_admitted(request: Any) -> None:
    known = {"model_name", "id", "parameters", "inputs", "outputs", "raw_input_contents"}
    assert {field.name for field, _ in request.ListFields()} <= known
    assert request.model_name in ("retrieval", "retrieval_chained", "")  # "": what came was a ModelConfigRequest
    assert set(request.parameters) <= {"timeout"}
    kinds = {parameter.WhichOneof("parameter_choice") for parameter in request.parameters.values()}
    assert kinds <= {"int64_param", None}
    for tensor in [*request.inputs, *request.outputs]:
        assert {field.name for field, _ in tensor.ListFields()} <= {"name", "datatype", "shape"}


def test_a_script_that_fails_admits_nothing(tmp_path: Path) -> None:
    script = tmp_path / "broken.lua"
    script.write_text('function envoy_on_request(handle) error("broken") end\n')
    with recording(tmp_path, script=script) as broken:
        assert broken.status(request_of()) == "PERMISSION_DENIED"
        assert not broken.came


@pytest.fixture(scope="module")
def gateway(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gateway as it is, before a Triton that serves both layouts."""
    with running(tmp_path_factory.mktemp("gateway"), served.server.addresses.grpc_port) as address:
        yield address


@pytest.mark.server
@pytest.mark.parametrize("model", ["retrieval", "retrieval_chained"])
def test_our_clients_are_answered_as_by_triton_itself(served: Served, gateway: str, model: str) -> None:
    items = served.run.items["item_id"].tolist()
    asking: dict[str, Any] = {
        "top_k": 7,
        "exclude_item_ids": [items[:5], []],
        "filters": [None, Filter(deny=items[5:9])],
        "columns": {"occupation": ["médecin", "学生"], "age": [30.0, 40.5]},
    }
    users = [served.users[0], served.stranger]
    with RetrievalClient(served.address, model) as direct, RetrievalClient(gateway, model) as client:
        expected = direct.recommend(users, **asking)
        assert client.recommend(users, **asking) == expected
        with pytest.raises(InvalidRequest, match="got 401"):
            client.recommend(users, top_k=401)

    async def asynchronously() -> Any:
        async with AsyncRetrievalClient(gateway, model) as client:
            return await client.recommend(users, **asking)

    assert asyncio.run(asynchronously()) == expected
    assert canary(gateway, model).healthy


@pytest.mark.server
def test_a_model_within_is_not_for_clients(gateway: str) -> None:
    with RetrievalClient(gateway, "retrieval_search") as client, pytest.raises(ClientError) as caught:
        client.signature()
    assert caught.value.status == "PERMISSION_DENIED"


def status_of(client: RetrievalClient, user: Any) -> str:
    """Ask and return the status of the refusal, if it is one that passes."""
    try:
        client.recommend([user])
    except Unavailable as error:
        return error.status
    return "OK"


@pytest.mark.server
def test_who_asks_too_often_is_told_to_come_later(served: Served, tmp_path: Path) -> None:
    """With an address's share made small; what all may send together is a bucket like it."""
    all_together, per_address = MANY.findall(CONFIG)
    config = CONFIG.replace(per_address, "max_tokens: 3, tokens_per_fill: 1")
    assert config.count(all_together) == 1
    with running(tmp_path, served.server.addresses.grpc_port, config=config) as address:
        with RetrievalClient(address, retries=0) as client:
            assert "RESOURCE_EXHAUSTED" in {status_of(client, served.users[0]) for _ in range(20)}
        with RetrievalClient(address, retries=10, backoff_s=0.5, timeout_s=60) as patient:
            assert patient.recommend(served.users[:1])[0].item_ids
