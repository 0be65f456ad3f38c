"""Totals of a running server: rows answered, CPU time used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.client.retry import meaning
from workflows.errors import ServerError

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Counters:
    """Totals since the server's start; subtract two readings to measure what happened in between."""

    rows: int
    """Rows answered (Triton's inference count: a request of n rows counts n)."""
    cpu_s: Mapping[int, float]
    """CPU seconds, user and system, by process id: the server and its children, Triton's Python stubs among them."""

    def cpu_seconds_since(self, earlier: Counters) -> float:
        """Return the CPU seconds used since `earlier`; a process that started in between counts from its start."""
        return sum(seconds - earlier.cpu_s.get(pid, 0.0) for pid, seconds in self.cpu_s.items())


def read_counters(address: str, model: str, server_pid: int | None = None) -> Counters:
    """Read a model's totals.

    Parameters
    ----------
    address
        host:port of the server's gRPC endpoint.
    model
        Name of the model.
    server_pid
        Process id of tritonserver, to read the CPU time of it and its children; None: a server elsewhere.

    Raises
    ------
    ClientError
        The server does not answer, or does not serve the model.
    ServerError
        There is no process `server_pid`.
    """
    statistics = _statistics(address, model)
    rows = sum(int(version.get("inference_count", 0)) for version in statistics)
    return Counters(rows, {} if server_pid is None else _cpu_seconds(server_pid))


def read_memory_mb(server_pid: int) -> float:
    """Return the memory of a server and its children, MB (10^6 bytes): pages that n processes share count 1/n for each.

    Raises
    ------
    ServerError
        There is no process `server_pid`.
    """
    total = 0
    for process in _processes(server_pid):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:  # a short-lived child that has just gone
            continue
    return total / 1e6


def _statistics(address: str, model: str) -> list[dict[str, Any]]:
    channel = grpc.InferenceServerClient(address, **channel_options(address))
    try:
        answer = channel.get_inference_statistics(model, as_json=True, client_timeout=_TIMEOUT_S)
    except InferenceServerException as error:
        raise meaning(error, address, model, _TIMEOUT_S) from None
    finally:
        channel.close()
    return answer.get("model_stats", [])


def _processes(pid: int) -> list[psutil.Process]:
    try:
        server = psutil.Process(pid)
        return [server, *server.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise ServerError(f"process {pid}, the server to be measured, does not run (any more)") from None


def _cpu_seconds(pid: int) -> dict[int, float]:
    used = {}
    for process in _processes(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # a short-lived child that has just gone
            continue
        used[process.pid] = times.user + times.system
    return used
