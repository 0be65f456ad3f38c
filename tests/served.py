"""The synthetic release behind a real Triton, and two ways to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

from ensemble.client import RetrievalClient
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from tests.synthetic import Run

Inputs = Mapping[str, tuple[str, np.ndarray]]


@dataclass(frozen=True)
class Served:
    """A running server and what it serves."""

    run: Run
    server: TritonServer
    id_type: str
    """Triton data type of user and item ids."""

    @property
    def address(self) -> str:
        """Return host:port of gRPC."""
        return self.server.addresses.grpc

    @property
    def users(self) -> list[Any]:
        """Return the user ids that the release knows."""
        return self.run.users["user_id"].tolist()

    @property
    def stranger(self) -> Any:
        """Return a user id that the release does not know."""
        return "никто" if self.id_type == "BYTES" else 10**15

    def ids(self, values: list[Any]) -> tuple[str, np.ndarray]:
        """Return ids as an input, one per row."""
        array = np.array(values, dtype=object if self.id_type == "BYTES" else np.int64)
        return self.id_type, array[:, None]

    def no_items(self, rows: int, width: int = 0) -> tuple[str, np.ndarray]:
        """Return `exclude_item_ids` of `width` ids that are no item."""
        blank: Any = "" if self.id_type == "BYTES" else -1
        return self.id_type, np.full((rows, width), blank, dtype=object if self.id_type == "BYTES" else np.int64)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], TritonServer]]:
    """Return the server of a release, in both layouts; started once per test process, and stopped at its end."""
    from ensemble.triton.export import export_repository

    with ExitStack() as running:

        @cache
        def started(release: Path) -> TritonServer:
            repository = export_repository(release, tmp_path_factory.mktemp("served") / "triton", "both")
            ports = dict(zip(("grpc_port", "http_port", "metrics_port"), free_ports("127.0.0.1", 3), strict=True))
            return running.enter_context(TritonServer(repository, **ports))

        yield started


@pytest.fixture(scope="session")
def served(run: Run, release: Path, servers: Callable[[Path], TritonServer]) -> Served:
    """The synthetic release behind a real Triton, once with integer ids and once with string ids."""
    return Served(run, servers(release), "BYTES" if run.users["user_id"].dtype == object else "INT64")


@pytest.fixture
def channel(served: Served) -> Iterator[Any]:
    """A plain connection, which sends what it is told to."""
    with grpc.InferenceServerClient(served.address) as connection:
        yield connection


@pytest.fixture
def client(served: Served) -> Iterator[RetrievalClient]:
    """Our client. It asks again after the test, so that a server that died or answers wrongly fails the test."""
    with RetrievalClient(served.address) as connection:
        before = connection.recommend(served.users[:3], top_k=5)
        yield connection
        assert connection.recommend(served.users[:3], top_k=5) == before


def tensor(name: str, data_type: str, array: np.ndarray) -> Any:
    """Return an input tensor."""
    input_ = grpc.InferInput(name, list(array.shape), data_type)
    input_.set_data_from_numpy(array)
    return input_


def int32(*values: int) -> tuple[str, np.ndarray]:
    """Return an INT32 input, one value per row."""
    return "INT32", np.array(values, dtype=np.int32)[:, None]


def texts(*values: bytes) -> tuple[str, np.ndarray]:
    """Return a BYTES input, one value per row."""
    return "BYTES", np.array(values, dtype=object)[:, None]


def numbers(*values: float) -> tuple[str, np.ndarray]:
    """Return an FP64 input, one value per row."""
    return "FP64", np.array(values, dtype=np.float64)[:, None]
