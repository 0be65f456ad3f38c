"""A run's Triton, for as long as a block or a notebook needs it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from ensemble.client import RetrievalClient
from ensemble.layouts import FUSED
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer

LOCALHOST = "127.0.0.1"


class Server:
    """A running Triton: leave it as a context, or `stop()` it; it ends with this process in any case."""

    def __init__(self, repository: Path, model: str = FUSED, grpc_port: int | None = None, **options: Any) -> None:
        """Start Triton on 127.0.0.1 and return once the model answers.

        Parameters
        ----------
        repository
            Directory of the model repository, `triton` of a run.
        model
            The model that `client` asks.
        grpc_port
            Port of gRPC; by default a free one, as is that of the metrics.
        options
            Others of `TritonServer`, by name.

        Raises
        ------
        ServerError
            There is no Triton, a port is taken, or the models do not load within `start_timeout_seconds`.
        """
        ports = dict(zip(("grpc_port", "metrics_port"), free_ports(LOCALHOST, 2), strict=True))
        chosen = {**ports, **({} if grpc_port is None else {"grpc_port": grpc_port}), **options}
        self._model = model
        self._triton = TritonServer(repository, host=LOCALHOST, **chosen)
        self._triton.start()

    @property
    def address(self) -> str:
        """Return `host:port` of gRPC."""
        return self._triton.addresses.grpc

    def client(self) -> RetrievalClient:
        """Return a client of it, a context manager."""
        return RetrievalClient(self.address, self._model)

    def stop(self) -> None:
        """Let requests in flight finish, and end it."""
        self._triton.stop()

    def __repr__(self) -> str:
        return f"<Server {self.address}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
