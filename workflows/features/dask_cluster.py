"""Where Dask's tasks run: in this process, on a local cluster of processes or GPUs, or on the user's own cluster.

Dask is imported where it is used: code that only reads features does without, and its import takes longer than pandas'.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as as_done
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workflows.config import Device
from workflows.errors import RecipeError, StageError

if TYPE_CHECKING:
    from distributed import Client

LOCALHOST = "127.0.0.1"
WORKERS_TIMEOUT_SECONDS = 60
MOST_THREADS = 4
_NEEDED = ("workflows", "models", "ensemble")


@contextmanager
def client(workers: int | None = None, scheduler: str | None = None, device: Device = "cpu") -> Iterator[Client | None]:
    """Yield a client of the cluster asked for, or None: then the work is done in this process.

    Parameters
    ----------
    workers
        So many processes on 127.0.0.1, of one thread each, which are replaced when they die; with a GPU, dask-cuda's
        cluster of so many GPUs. 0 and None are this process.
    scheduler
        Address of a Dask scheduler, such as `tcp://10.0.0.1:8786`. Its workers need this project installed and the
        run's directory under the same path.
    device
        Decides between processes and GPUs (`workflows.features.workflow.wants_gpu`).

    Raises
    ------
    RecipeError
        Both `workers` and `scheduler` are given, or a GPU is wanted that is not there.
    StageError
        The scheduler cannot be reached, has no worker, or its workers do not have this project.
    """
    if workers and scheduler:
        raise RecipeError("--workers starts a cluster and --scheduler joins one; give one of the two")
    if scheduler:
        with _join(scheduler) as joined:
            yield joined
    elif workers:
        from distributed import Client

        with _local(workers, device) as cluster, Client(cluster) as started:
            yield started
    else:
        yield None


def _local(workers: int, device: Device) -> Any:
    """Return a cluster of this machine; it has no dashboard, and nobody outside can reach it."""
    options = {"n_workers": workers, "host": LOCALHOST, "dashboard_address": None, "silence_logs": logging.ERROR}
    if device != "cpu":  # Merlin, which knows about GPUs, takes seconds to import
        from workflows.features.workflow import wants_gpu

        if wants_gpu(device):
            from dask_cuda import LocalCUDACluster

            return LocalCUDACluster(**options)
    from distributed import LocalCluster

    return LocalCluster(threads_per_worker=1, processes=True, **options)


@contextmanager
def _join(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        joined = Client(address, timeout=f"{WORKERS_TIMEOUT_SECONDS}s")
    except (OSError, ValueError) as error:
        remedy = "start one with `dask scheduler` and its workers with `dask worker ADDRESS`, or leave --scheduler out"
        raise StageError(f"--scheduler {address}: no Dask scheduler answers there ({error}); {remedy}") from None
    with joined:
        _check_workers(joined, address)
        yield joined


def _check_workers(joined: Client, address: str) -> None:
    try:
        joined.wait_for_workers(1, timeout=WORKERS_TIMEOUT_SECONDS)
    except TimeoutError:
        raise StageError(f"--scheduler {address}: it has no workers; start some with `dask worker {address}`") from None
    for worker, missing in joined.run(_missing).items():
        if missing:
            raise StageError(
                f"--scheduler {address}: worker {worker} cannot import {', '.join(missing)}; install this project there"
            )


def _missing() -> list[str]:
    """Return the packages of this project that a worker does not have."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def compute(collections: list[Any], client: Client | None) -> list[Any]:
    """Return the values of Dask collections, or of containers of them: on the client's cluster, else in threads."""
    from dask.base import compute as compute_here
    from dask.delayed import delayed

    wrapped = [delayed(collection) for collection in collections]
    if client is not None:
        return list(client.gather(client.compute(wrapped)))
    return list(compute_here(*wrapped, scheduler="threads", num_workers=threads()))


def each(function: Callable[[int], Any], numbers: int, client: Client | None) -> Iterator[Any]:
    """Yield `function(0)`, `function(1)` and so on as they are done, in any order."""
    if client is not None:
        from distributed import as_completed

        futures = client.map(function, range(numbers), pure=False)
        for done in as_completed(futures):
            yield done.result()
            done.release()
        return
    with ThreadPoolExecutor(threads()) as pool:
        for finished in as_done([pool.submit(function, number) for number in range(numbers)]):
            yield finished.result()


def threads() -> int:
    """Return how many threads this process works with where there is no cluster: each holds a part in memory."""
    return min(MOST_THREADS, os.cpu_count() or 1)
