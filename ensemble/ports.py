"""Which ports are free, and who has those that are not."""

from __future__ import annotations

import random
import socket

import psutil

from workflows.diagnostics import ServerError

_BELOW_EPHEMERAL = range(20000, 32768)


def check_free(host: str, ports: dict[str, int]) -> None:
    """Raise ServerError naming the first of the ports (by purpose) that is taken, and the process that has it."""
    if len(set(ports.values())) < len(ports):
        listed = ", ".join(f"{purpose} {port}" for purpose, port in ports.items())
        raise ServerError(f"one port is given twice ({listed}); expected a port of its own for each")
    for purpose, port in ports.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ServerError(
                    f"port {port} ({purpose}) on {host} is taken{_owner(port)} ({error.strerror}); "
                    f"stop that process or choose another with --{purpose}-port"
                ) from None


def free_ports(host: str, count: int) -> list[int]:
    """Return `count` distinct ports that are free now.

    They lie below the range from which the kernel takes ports for outgoing connections, one of which could otherwise
    get a port between this call and its use; and they are drawn at random, so that two callers seldom meet.
    """
    found: list[int] = []
    for port in random.sample(_BELOW_EPHEMERAL, len(_BELOW_EPHEMERAL)):
        if len(found) == count:
            break
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        found.append(port)
    return found


def _owner(port: int) -> str:
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        pids = [one.pid for one in listening if one.laddr and one.laddr.port == port and one.pid]
        return f" by {psutil.Process(pids[0]).name()} (process {pids[0]})" if pids else ""
    except (psutil.Error, OSError):
        return ""  # another user's process: the kernel does not tell
