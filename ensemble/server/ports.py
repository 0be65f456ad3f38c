"""Free ports, and the processes that hold the others."""

from __future__ import annotations

import errno
import os
import random
import socket
from collections.abc import Iterator
from functools import lru_cache
from itertools import cycle, islice
from typing import Any

import psutil

from workflows.errors import ServerError

_BELOW_EPHEMERAL = range(20000, 32768)
_BLOCK = 64
_PORTS = 1 << 16


def check_port(purpose: str, port: int) -> None:
    """Raise ServerError unless `port` is from 1 to 65535."""
    if not 0 < port < _PORTS:
        raise ServerError(f"{purpose} {port}: expected a port from 1 to {_PORTS - 1}")


def check_address(address: str) -> None:
    """Raise ServerError unless `address` is host:port."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < _PORTS):
        raise ServerError(f"{address}: expected HOST:PORT, such as 127.0.0.1:8001, with a port from 1 to {_PORTS - 1}")


def check_free(host: str, ports: dict[str, int]) -> None:
    """Raise ServerError naming the first taken port, its purpose and the process that holds it."""
    if len(set(ports.values())) < len(ports):
        listed = ", ".join(f"{purpose} {port}" for purpose, port in ports.items())
        raise ServerError(f"one port is given twice ({listed}); expected a port of its own for each")
    for purpose, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            try:
                probe.bind((host, port))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise ServerError(
                        f"{host}: {error.strerror}; expected an address of this machine, such as 127.0.0.1 or 0.0.0.0"
                    ) from None
                raise ServerError(
                    f"port {port} ({purpose}) on {host} is taken{_owner(port)} ({error.strerror}); "
                    f"stop that process or choose another with --{purpose}-port"
                ) from None


def free_ports(host: str, count: int) -> list[int]:
    """Return `count` distinct free ports, which this function gives to no other process of the machine, or raise
    ServerError.

    They lie below the range of ports for outgoing connections; the kernel could give away one of those between this
    call and its use. Of two servers that start on the same port at once one ends, but only after the other was taken
    for it.
    """
    free: list[int] = []
    _, ports = _own_ports(os.getpid())
    for port in islice(ports, _BLOCK):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise ServerError(f"{count} free ports on {host} were looked for and {len(free)} found; name ports yourself")


@lru_cache(maxsize=1)
def _own_ports(process: int) -> tuple[socket.socket, Iterator[int]]:
    """Return a block of ports that only this process hands out, and the socket that reserves it until the process ends.

    The reservation is an abstract socket name (unix(7)): it belongs to the network namespace, as ports do, and is
    released by the kernel.
    """
    starts = _BELOW_EPHEMERAL[::_BLOCK][:-1]
    for start in random.sample(starts, len(starts)):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0merlin-retrieval-ports-{start}")
        except OSError:
            claim.close()
            continue
        return claim, cycle(range(start, start + _BLOCK))
    raise ServerError(f"{len(starts)} processes look for free ports already; name ports yourself")


def ports_beside(port: int) -> list[int]:
    """Return the other ports of the process that listens at `port`, if the kernel lets us see them."""
    try:
        listening = _listening()
    except (psutil.Error, OSError):
        return []
    owners = {connection.pid for connection in listening if connection.laddr.port == port and connection.pid}
    return sorted({connection.laddr.port for connection in listening if connection.pid in owners} - {port})


def _listening() -> list[Any]:
    ends = psutil.net_connections("tcp")
    return [end for end in ends if end.status == psutil.CONN_LISTEN and end.laddr]


def _owner(port: int) -> str:
    try:
        pids = [connection.pid for connection in _listening() if connection.laddr.port == port and connection.pid]
        return f" by {psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else ""
    except (psutil.Error, OSError):
        return ""  # another user's process: the kernel does not tell
