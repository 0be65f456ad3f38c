"""Triton's endpoints: addresses, TLS and the key for administrative commands."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ensemble.client.tls import ServerTls
from ensemble.server.ports import check_port
from workflows.errors import ServerError

KEY_VARIABLE = "RETRIEVAL_ADMIN_KEY"
"""Environment variable that names the key of the server's commands; without it each server draws one."""
KEY_HEADER = "admin-key"
_KEY = re.compile(r"[0-9A-Za-z_-]{16,128}")
_RESTRICTED = "model-repository,shared-memory,trace,logging"


@dataclass(frozen=True)
class Addresses:
    """The addresses of a server."""

    host: str
    grpc_port: int
    http_port: int | None
    """None: no HTTP."""
    metrics_port: int
    metrics_host: str | None = None
    """None: `host`, too."""

    def __post_init__(self) -> None:
        """Raise ServerError for a port that is out of range, or no host: an empty one would be every address."""
        if not all(self.host_of(purpose) for purpose in self.ports):
            raise ServerError("--host, --metrics-host: expected an address, such as 127.0.0.1")
        for purpose, port in self.ports.items():
            check_port(f"--{purpose}-port", port)

    @property
    def grpc(self) -> str:
        """Return host:port for gRPC clients."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def ports(self) -> dict[str, int]:
        """Return the ports by purpose."""
        http = {} if self.http_port is None else {"http": self.http_port}
        return {"grpc": self.grpc_port, **http, "metrics": self.metrics_port}

    def host_of(self, purpose: str) -> str:
        """Return the address that one of the `ports` is bound to."""
        return self.metrics_host or self.host if purpose == "metrics" else self.host


def admin_key() -> str:
    """Return the key for administrative commands: the one in the environment, else a random one.

    Raise ServerError if the environment's is too short, or has characters that Triton's option cannot hold.
    """
    key = os.environ.get(KEY_VARIABLE)
    if key is None:
        return secrets.token_hex(16)
    if not _KEY.fullmatch(key):
        raise ServerError(
            f"{KEY_VARIABLE}: expected 16 to 128 letters, digits, _ or -; such as `openssl rand -hex 16` prints"
        )
    return key


def server_arguments(
    repository: Path, place: Addresses, key: str, tls: ServerTls | None = None, exit_timeout_seconds: int = 15
) -> list[str]:
    """Return tritonserver's arguments, except for the backend directory.

    Raises
    ------
    ServerError
        HTTP is combined with TLS, which Triton does not offer there; a certificate cannot be read.
    """
    if tls is not None and place.http_port is not None:
        raise ServerError("--http-port: Triton's HTTP has no TLS; leave it out, or put a proxy before it")
    # Loading a model is running its code, and shared memory is where requests and answers lie: for those alone who can
    # read the key.
    guard = f"{_RESTRICTED}:{KEY_HEADER}={key}"
    http: dict[str, object] = {"allow-http": "false"}
    if place.http_port is not None:
        http = {"http-address": place.host, "http-port": place.http_port, "http-restricted-api": guard}
    options = {
        "model-repository": repository,
        "grpc-address": place.host,
        "grpc-port": place.grpc_port,
        "grpc-restricted-protocol": guard,
        **http,
        "metrics-address": place.host_of("metrics"),
        "metrics-port": place.metrics_port,
        **({} if tls is None else tls.options()),
        "allow-gpu-metrics": "false",
        # What is loaded changes when it is told to, and a release that fails to load must not make the server unready
        # which goes on answering with the old one.
        "model-control-mode": "explicit",
        "load-model": "*",
        "strict-readiness": "false",
        "exit-timeout-secs": exit_timeout_seconds,
    }
    return ["--disable-auto-complete-config", *(f"--{name}={value}" for name, value in options.items())]
