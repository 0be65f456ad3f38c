"""The client for asyncio: what `ensemble.client.client` does, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.client.client import Returned
from ensemble.client.retry import AskConfig, Pause, Peer, Settings, Step, ask, ask_signature
from ensemble.client.tensors import Exclusions, Filters, Histories, Query, Recommendations, Signature
from ensemble.client.tls import ClientTls


class AsyncRetrievalClient:
    """Asks one served model over gRPC; one connection for all tasks of one event loop. Make it inside the loop."""

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
        """Take what `ensemble.client.retry.Settings` documents.

        Without `tls` the environment says whether and how the connection is encrypted (`RETRIEVAL_TLS_CA`, ...);
        `proxy` is whether a server on another machine is reached through the environment's proxy, by default not
        (`ensemble.client.channels`).
        """
        self._peer = Peer(Settings(address, model, timeout_s, retries, backoff_s))
        self._channel = grpc.InferenceServerClient(address, **channel_options(address, tls, proxy))

    async def __aenter__(self) -> AsyncRetrievalClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def recommend(
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
        """Return each user's best items, in the order of `user_ids`, as `RetrievalClient.recommend`."""
        return await self.ask(
            Query(user_ids, top_k, exclude_item_ids, include_seen, columns or {}, timestamps, history, filters)
        )

    async def ask(self, query: Query) -> list[Recommendations]:
        """Return the answer to each row of `query`; raises as `ensemble.client.retry.ask`."""
        return await self._hold(ask(self._peer, query))

    async def signature(self) -> Signature:
        """Return what the model takes; asked of the server once."""
        return await self._hold(ask_signature(self._peer))

    async def _hold(self, conversation: Generator[Step, Any, Returned]) -> Returned:
        """Do the steps of a conversation and return what it comes to."""
        try:
            step = next(conversation)
            while True:
                try:
                    result = await self._do(step)
                except InferenceServerException as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(result)
        except StopIteration as end:
            return end.value

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        model = self._peer.settings.model
        if isinstance(step, AskConfig):
            return await self._channel.get_model_config(model, as_json=True, client_timeout=step.seconds)
        return await self._channel.infer(model, **step.options())
