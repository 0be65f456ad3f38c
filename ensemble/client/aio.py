"""The client for asyncio: the methods of `ensemble.client.client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.client import ClientBase, Returned
from ensemble.client.retry import AskConfig, Pause, Step, ask, ask_signature
from ensemble.client.tensors import Exclusions, Filters, Histories, Query, Recommendations, Signature


class AsyncRetrievalClient(ClientBase):
    """A client of one served model over gRPC, for the tasks of one event loop. Create it inside the loop.

    Parameters are those of `RetrievalClient`.
    """

    _connect = grpc.InferenceServerClient

    async def __aenter__(self) -> AsyncRetrievalClient:
        return self

    async def __aexit__(self, *_: object) -> None:
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
        """Return the best items of each user, as `RetrievalClient.recommend` does.

        Parameters
        ----------
        user_ids, top_k, exclude_item_ids, include_seen, columns, timestamps, history, filters
            n users and, for each of them, what `RetrievalClient.recommend` documents.

        Returns
        -------
        list of Recommendations
            n answers in the order of `user_ids`.

        Raises
        ------
        InvalidRequest, Unavailable, DeadlineExceeded, ClientError
            As `RetrievalClient.recommend` does.
        """
        return await self.ask(
            Query(user_ids, top_k, exclude_item_ids, include_seen, columns or {}, timestamps, history, filters)
        )

    async def ask(self, query: Query) -> list[Recommendations]:
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
            As `RetrievalClient.recommend` does.
        """
        return await self._run(ask(self._peer, query))

    async def signature(self) -> Signature:
        """Return the inputs, outputs and limits of the model, read from the server once.

        Raises
        ------
        Unavailable, DeadlineExceeded, ClientError
            As `RetrievalClient.recommend` does.
        """
        return await self._run(ask_signature(self._peer))

    async def _run(self, steps: Generator[Step, Any, Returned]) -> Returned:
        """Do the steps of a call and return its result."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._do(step)
                except InferenceServerException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return end.value

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        model = self._peer.model
        if isinstance(step, AskConfig):
            return await self._channel.get_model_config(model, as_json=True, client_timeout=step.seconds)
        return await self._channel.infer(model, **step.options())
