"""Totals of a running server: rows answered, CPU time used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

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
    """Read a model's totals; no CPU time without the process id of tritonserver, for a server elsewhere.

    Raise ClientError if the server does not answer or serve the model, ServerError if there is no such process.
    """
    try:
        with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
            statistics = channel.get_inference_statistics(model, as_json=True, client_timeout=_TIMEOUT_S)
    except InferenceServerException as error:
        raise meaning(error, address, model, _TIMEOUT_S) from None
    rows = sum(int(version.get("inference_count", 0)) for version in statistics.get("model_stats", []))
    return Counters(rows, {} if server_pid is None else _by_process(server_pid, _cpu_seconds))


def read_memory_mb(server_pid: int) -> float:
    """Return the memory of a server and its children, MB (10^6 bytes): pages that n processes share count 1/n for each.

    Raise ServerError if there is no such process.
    """
    return sum(_by_process(server_pid, lambda process: process.memory_full_info().pss).values()) / 1e6


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _by_process(server_pid: int, read: Callable[[psutil.Process], float]) -> dict[int, float]:
    """Return what `read` says of a server and each of its children, by process id."""
    try:
        server = psutil.Process(server_pid)
        processes = [server, *server.children(recursive=True)]
    except psutil.NoSuchProcess:
        raise ServerError(f"process {server_pid}, the server to be measured, does not run (any more)") from None
    figures = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a short-lived child that has just gone
            figures[process.pid] = read(process)
    return figures
