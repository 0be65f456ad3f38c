"""A server as it starts unless told otherwise, and one with mutual TLS: who may ask, and who may command it."""

from __future__ import annotations

import asyncio
import datetime
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tritonclient.utils import InferenceServerException

from ensemble.client import RetrievalClient, Unavailable
from ensemble.client.aio import AsyncRetrievalClient
from ensemble.client.tls import ClientTls, ServerTls
from ensemble.layouts import FUSED
from ensemble.server.endpoints import KEY_VARIABLE, Addresses, admin_key, server_arguments
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.server.triton_log import printable
from ensemble.supervision.health import canary
from ensemble.triton.export import export_repository
from ensemble.triton.model_control import ModelControl
from retrieval.commands.serving.serve import server_tls
from tests.served import Served, tensor, texts
from tests.synthetic import make_release, make_run
from tests.waiting import until
from workflows.errors import RecipeError, ServerError

NAME = "recommendations.example"
CERTIFICATES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class Authority:
    """Signs certificates: `ca.pem`, and `server` and `client`, each `.pem` and `.key`, in a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, place.name)])
        own = self._built(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self._write("ca", own, self._key)
        for name, usage in CERTIFICATES.items():
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            certificate = self._built(subject, key).add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            self._write(name, certificate.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), False), key)

    def client(self, **changed: Any) -> ClientTls:
        """Return what a client of the server needs."""
        options: dict[str, Any] = {
            "authority": self.place / "ca.pem",
            "certificate": self.place / "client.pem",
            "key": self.place / "client.key",
            "name": NAME,
            **changed,
        }
        return ClientTls(**options)

    def _built(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        return builder.not_valid_after(now + datetime.timedelta(days=1))

    def _write(self, name: str, builder: x509.CertificateBuilder, key: Any) -> None:
        pem = serialization.Encoding.PEM
        signed = builder.sign(self._key, hashes.SHA256())
        (self.place / f"{name}.pem").write_bytes(signed.public_bytes(pem))
        (self.place / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


@dataclass(frozen=True)
class Encrypted:
    """A server that wants certificates of its clients."""

    server: TritonServer
    own: Authority
    other: Authority
    log: list[str]

    @property
    def address(self) -> str:
        return self.server.addresses.grpc


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    place = tmp_path_factory.mktemp("tls")
    own, other = Authority(place / "own"), Authority(place / "other")
    repository = export_repository(make_release(make_run(place)), place / "triton")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    log: list[str] = []
    tls = ServerTls(own.place / "server.pem", own.place / "server.key", own.place / "ca.pem")
    server = TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port, tls=tls, on_log=log.append)
    with server:
        yield Encrypted(server, own, other, log)


def ask(address: str, tls: ClientTls) -> int:
    """Return how many items a stranger gets."""
    with RetrievalClient(address, timeout_s=3, retries=0, tls=tls) as client:
        return len(client.recommend([-1])[0].item_ids)


def ids(*values: int) -> tuple[str, np.ndarray]:
    """Return user ids as an input."""
    return "INT64", np.array(values)[:, None]


@pytest.mark.server
def test_who_has_a_certificate_of_the_authority_is_answered(
    encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(encrypted.address, encrypted.own.client()) == 10

    async def asynchronously() -> int:
        async with AsyncRetrievalClient(encrypted.address, tls=encrypted.own.client()) as client:
            return len((await client.recommend([-1]))[0].item_ids)

    assert asyncio.run(asynchronously()) == 10
    for name, value in (("CA", "ca.pem"), ("CERT", "client.pem"), ("KEY", "client.key")):
        monkeypatch.setenv(f"RETRIEVAL_TLS_{name}", str(encrypted.own.place / value))
    monkeypatch.setenv("RETRIEVAL_TLS_NAME", NAME)
    with RetrievalClient(encrypted.address) as client:
        assert len(client.recommend([-1])[0].item_ids) == 10
    with ModelControl(encrypted.address, encrypted.server.repository) as control:
        control.require([FUSED], 1)


@pytest.mark.server
@pytest.mark.parametrize(
    "client",
    [
        lambda place: place.own.client(certificate=None, key=None),
        lambda place: place.other.client(authority=place.own.place / "ca.pem"),
        lambda place: place.own.client(authority=place.other.place / "ca.pem"),
        lambda place: place.own.client(name=None),
        lambda place: place.own.client(certificate=place.own.place / "server.pem", key=place.own.place / "server.key"),
    ],
    ids=["no certificate", "another authority's", "a server of another authority", "another name", "the server's own"],
)
def test_who_has_not_is_turned_away(encrypted: Encrypted, client: Callable[[Encrypted], ClientTls]) -> None:
    with pytest.raises(Unavailable):
        ask(encrypted.address, client(encrypted))
    assert ask(encrypted.address, encrypted.own.client()) == 10


@pytest.mark.server
def test_without_tls_nobody_is_understood(encrypted: Encrypted) -> None:
    with RetrievalClient(encrypted.address, timeout_s=3, retries=0) as client, pytest.raises(Unavailable):
        client.recommend([-1])


COMMANDS: dict[str, Callable[[Any], object]] = {
    "the repository's index": lambda client: client.get_model_repository_index(),
    "load": lambda client: client.load_model(FUSED),
    "unload": lambda client: client.unload_model(FUSED),
    "shared memory": lambda client: client.register_system_shared_memory("mine", "/triton_python_backend_shm", 64),
    "status of shared memory": lambda client: client.get_system_shared_memory_status(),
    "CUDA shared memory": lambda client: client.get_cuda_shared_memory_status(),
    "trace settings": lambda client: client.update_trace_settings(settings={"trace_level": "TENSORS"}),
    "reading trace settings": lambda client: client.get_trace_settings(),
    "log settings": lambda client: client.update_log_settings({"log_verbose_level": 1}),
    "reading log settings": lambda client: client.get_log_settings(),
}


@pytest.mark.server
def test_commands_need_the_key(served: Served, channel: Any) -> None:
    for command in COMMANDS.values():
        with pytest.raises(InferenceServerException, match="restricted"):
            command(channel)
    assert channel.is_model_ready(FUSED)


@pytest.mark.server
def test_commands_over_http_need_it_too(served: Served) -> None:
    """This server was told to listen for HTTP."""
    place = served.server.addresses
    models = "v2/repository/models/retrieval"
    posts = ("v2/repository/index", f"{models}/load", f"{models}/unload", "v2/systemsharedmemory/region/a/register")
    for path in (*posts, "v2/systemsharedmemory/status", "v2/trace/setting", "v2/logging"):
        request = urllib.request.Request(
            f"http://{place.host}:{place.http_port}/{path}", b"{}" if path in posts else None
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=5)
        assert b"restricted" in caught.value.read(), path


@pytest.mark.server
def test_what_a_client_writes_makes_no_line_in_the_log(encrypted: Encrypted) -> None:
    hostile = "\r\nE9999 00:00:00.000000 1 fake.cc:1] \x1b[31m\x9b31m\u202e\u2028"
    with grpc.InferenceServerClient(encrypted.address, **encrypted.own.client().options()) as channel:
        user, wrong = tensor("user_id", *ids(-1)), tensor("occupation", *texts(hostile.encode() + b"\xff"))
        for model, version in ((FUSED, "1"), (hostile, ""), (FUSED, hostile)):
            with pytest.raises((InferenceServerException, ValueError)):
                channel.infer(model, [user, wrong], model_version=version, request_id=hostile)
    until(
        lambda: any("refused" in line and "9999" in line for line in encrypted.log), "a refusal is logged with its id"
    )
    assert ask(encrypted.address, encrypted.own.client()) == 10
    assert all(line.isprintable() for line in encrypted.log)
    assert not any(line.startswith("E9999") for line in encrypted.log)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("plain, Ünïcode, 東京") == "plain, Ünïcode, 東京"
    assert printable("a\x1b[2Jb\x9bc\u202ed\te\r") == r"a\x1b[2Jb\x9bc\u202ed\te\r"


def test_a_key_of_the_environment_is_taken_if_it_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a" * 32)
    assert admin_key() == "a" * 32
    for bad in ("short", "sixteen letters, and more", "sixteen=letters=and=more", ""):
        monkeypatch.setenv(KEY_VARIABLE, bad)
        with pytest.raises(ServerError, match="openssl rand"):
            admin_key()
    monkeypatch.delenv(KEY_VARIABLE)
    assert len({admin_key() for _ in range(3)}) == 3


def test_certificates_that_cannot_be_are_refused_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("hello")
    place = Addresses("127.0.0.1", 1, None, 2)
    with pytest.raises(ServerError, match=r"--tls-cert .*missing\.pem: cannot be read"):
        server_arguments(tmp_path, place, "k", ServerTls(tmp_path / "missing.pem", tmp_path / "no.pem"))
    with pytest.raises(ServerError, match=r"--tls-cert .*no\.pem: no PEM file"):
        server_arguments(tmp_path, place, "k", ServerTls(tmp_path / "no.pem", tmp_path / "no.pem"))
    with pytest.raises(ServerError, match="HTTP has no TLS"):
        server_arguments(tmp_path, Addresses("h", 1, 3, 2), "k", ServerTls(tmp_path / "a", tmp_path / "b"))
    with pytest.raises(ServerError, match="belong together"):
        ClientTls(certificate=tmp_path / "no.pem")


def test_http_is_off_unless_it_has_a_port(tmp_path: Path) -> None:
    off = server_arguments(tmp_path, Addresses("127.0.0.1", 1, None, 2), "secret")
    on = server_arguments(tmp_path, Addresses("127.0.0.1", 1, 3, 2), "secret")
    inside = server_arguments(tmp_path, Addresses("0.0.0.0", 1, None, 2, "127.0.0.1"), "secret")
    assert {"--grpc-address=0.0.0.0", "--metrics-address=127.0.0.1"} <= set(inside)
    assert "--allow-http=false" in off
    assert not any(option.startswith("--http") for option in off)
    assert "--model-control-mode=explicit" in off
    assert any(option.startswith("--http-restricted-api=") and "secret" in option for option in on)


@pytest.mark.server
def test_the_supervisor_of_an_encrypted_server_is_a_client_of_it(
    encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the server by its certificate, whatever name and authority that has."""
    for name, value in (("CERT", "client.pem"), ("KEY", "client.key")):
        monkeypatch.setenv(f"RETRIEVAL_TLS_{name}", str(encrypted.own.place / value))
    own = encrypted.server.client_tls
    assert own.name == NAME
    assert ask(encrypted.address, own) == 10
    assert canary(encrypted.address, FUSED, 3, own).alive


def test_a_supervisor_without_a_certificate_is_noticed_before_the_start(tmp_path: Path) -> None:
    files = tmp_path / "a.pem", tmp_path / "a.key"
    with pytest.raises(RecipeError, match="supervisor needs a client's certificate"):
        server_tls(*files, tmp_path / "ca.pem", supervise=True)
    assert server_tls(*files, tmp_path / "ca.pem", supervise=False) == ServerTls(*files, tmp_path / "ca.pem")
    with pytest.raises(RecipeError, match="--tls-cert and --tls-key together"):
        server_tls(None, files[1], None, supervise=False)
