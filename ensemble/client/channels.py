"""How a gRPC channel to a server is opened: how long messages may be, TLS, and whether a proxy is in between."""

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
    """Return the arguments of tritonclient's `InferenceServerClient` for the server at `address`, HOST:PORT.

    Without `tls` the environment says whether the channel is encrypted, without `proxy` whether a proxy may be used
    (`grpc_proxy`, `https_proxy`, `http_proxy`, less what `no_proxy` names): by default none is, and to this machine
    never.

    Raises
    ------
    ServerError
        The address has no port; a certificate cannot be read.
    """
    check_address(address)
    chosen = tls or ClientTls.from_environment()
    options: dict[str, Any] = {} if chosen is None else chosen.options()
    wanted = os.environ.get(PROXY_VARIABLE) == "1" if proxy is None else proxy
    through = int(wanted and not is_here(address.rpartition(":")[0]))
    arguments = [*_MESSAGES, ("grpc.enable_http_proxy", through), *options.pop("channel_args", [])]
    return {**options, "channel_args": arguments}


def is_here(host: str) -> bool:
    """Return whether a host name or address is this machine's: nothing else can be bound to."""
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, place in addresses[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
        return bool(addresses)
    except (OSError, UnicodeError):
        return False
