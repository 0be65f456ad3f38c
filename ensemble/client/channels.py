"""Options of a gRPC channel to a server: message sizes, TLS, proxy."""

from __future__ import annotations

import os
import socket
from typing import Any

from ensemble.client.tls import ClientTls
from ensemble.server.ports import check_address

PROXY_VARIABLE = "RETRIEVAL_PROXY"
"""Environment variable: with 1 servers on other machines are reached through the proxy that the environment names."""
_LONGEST = (1 << 31) - 1
_MESSAGES = [("grpc.max_send_message_length", _LONGEST), ("grpc.max_receive_message_length", _LONGEST)]


def channel_options(address: str, tls: ClientTls | None = None, proxy: bool | None = None) -> dict[str, Any]:
    """Return the arguments of tritonclient's `InferenceServerClient` for one server, host:port.

    Certificates are by default those that the environment names, else it is plain text. A proxy (`grpc_proxy`,
    `https_proxy`, `http_proxy`, except for the hosts in `no_proxy`) is by default used only where `RETRIEVAL_PROXY` is
    1, and a server on this machine is never reached through one. Raise ServerError if the address has no port, or a
    certificate cannot be read.
    """
    check_address(address)
    chosen = tls or ClientTls.from_environment()
    options: dict[str, Any] = {} if chosen is None else chosen.options()
    through_proxy = os.environ.get(PROXY_VARIABLE) == "1" if proxy is None else proxy
    through = int(through_proxy and not is_here(address.rpartition(":")[0]))
    arguments = [*_MESSAGES, ("grpc.enable_http_proxy", through), *options.pop("channel_args", [])]
    return {**options, "channel_args": arguments}


def is_here(host: str) -> bool:
    """Return whether a host name or address belongs to this machine, that is, whether it can be bound."""
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, place in addresses[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
        return bool(addresses)
    except (OSError, UnicodeError):
        return False
