"""A typed client of the served model: numbers and strings in, plain Python answers out. For asyncio: `aio`."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.client.retry import AskConfig, Pause, Peer, Step, ask, ask_signature
from ensemble.client.tensors import Exclusions, Filters, Histories, Query, Recommendations, Signature
from ensemble.client.tls import ClientTls

Returned = TypeVar("Returned")


class ClientBase:
    """The settings and the connection of a client, blocking or asyncio."""

    _connect: ClassVar[Any]
    """tritonclient's `InferenceServerClient`, opened at the first call."""

    def __init__(
        self,
        address: str = "127.0.0.1:8001",
        model: str = "retrieval",
        timeout_s: float = 10.0,
        retries: int = 2,
        backoff_s: float = 0.05,
        tls: ClientTls | None = None,
        proxy: bool | None = None,
    ) -> None:
        """Set up a client; nothing is sent yet.

        Parameters
        ----------
        address
            host:port of the server's gRPC endpoint.
        model
            Name of the Triton model: `retrieval`, or `retrieval_chained`.
        timeout_s
            Seconds for a whole call, with its retries and all of its requests.
        retries
            How often a request is sent again after `Unavailable`.
        backoff_s
            Longest pause in seconds before the first retry, doubled for each further one.
        tls
            Certificates; by default those that the environment names (`RETRIEVAL_TLS_CA`, ...), else plain text.
        proxy
            Whether to reach a server on another machine through the environment's proxy; by default only where
            `RETRIEVAL_PROXY` is 1.

        Raises
        ------
        InvalidRequest
            A number is out of range.
        ServerError
            The address is not host:port, or a certificate cannot be read.
        """
        self._peer = Peer(address, model, timeout_s, retries, backoff_s)
        self._channel = self._connect(address, **channel_options(address, tls, proxy))


class RetrievalClient(ClientBase):
    """A client of one served model over gRPC. Threads may share it; the connection is opened at the first call and
    reused.

    The first call also reads the model's configuration once, to learn its id types and limits.
    """

    _connect = grpc.InferenceServerClient

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def recommend(
        self,
        user_ids: Sequence[Any] | np.ndarray,
        *,
        top_k: int | None = None,
        exclude_item_ids: Exclusions | None = None,
        include_seen: bool = False,
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
        timestamps: Sequence[int] | np.ndarray | None = None,
        history: Histories | None = None,
        filters: Filters | None = None,
    ) -> list[Recommendations]:
        """Return the best items of each user.

        More rows than the model takes at once are sent as several requests, one after the other.

        Parameters
        ----------
        user_ids
            n ids, integers or strings as the release has them. Users it does not know are answered from `columns`.
        top_k
            Items per user; by default the release's own number.
        exclude_item_ids
            n lists of item ids that an answer must not hold.
        include_seen
            Whether items of the user's known history may be answered.
        columns
            Further query columns by name, n values each. They override what the release knows of the user.
        timestamps
            n times of the queries, int64 seconds since 1970; later interactions are ignored. By default the server's
            clock.
        history
            n lists of (item id, seconds since 1970): interactions beside those that the release knows.
        filters
            n filters: a `Filter`, the JSON text that the server takes (docs/serving.md), or None.

        Returns
        -------
        list of Recommendations
            n answers in the order of `user_ids`, each with its item ids and scores, best first.

        Raises
        ------
        InvalidRequest
            The request is wrong; the message names column and row. Found here or by the server.
        Unavailable
            The server does not answer, does not serve the model, or its queue is full.
        DeadlineExceeded
            The answer did not come within `timeout_s`.
        ClientError
            The server failed.
        """
        return self.ask(
            Query(user_ids, top_k, exclude_item_ids, include_seen, columns or {}, timestamps, history, filters)
        )

    def ask(self, query: Query) -> list[Recommendations]:
        """Answer a query that was put together beforehand; see `recommend`.

        Parameters
        ----------
        query
            n rows and what is asked of them.

        Returns
        -------
        list of Recommendations
            n answers, in the order of the rows.

        Raises
        ------
        InvalidRequest, Unavailable, DeadlineExceeded, ClientError
            As `recommend` does.
        """
        return self._run(ask(self._peer, query))

    def signature(self) -> Signature:
        """Return the inputs, outputs and limits of the model, read from the server once.

        Raises
        ------
        Unavailable, DeadlineExceeded, ClientError
            As `recommend` does.
        """
        return self._run(ask_signature(self._peer))

    def _run(self, steps: Generator[Step, Any, Returned]) -> Returned:
        """Do the steps of a call and return its result."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except InferenceServerException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value

    def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        model = self._peer.model
        if isinstance(step, AskConfig):
            return self._channel.get_model_config(model, as_json=True, client_timeout=step.seconds)
        return self._channel.infer(model, **step.options())
