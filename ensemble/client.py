"""A typed client of the served model: numbers and strings in, plain Python answers out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.wire import (
    ClientError,
    Exclusions,
    Filters,
    Histories,
    InvalidRequest,
    Query,
    Recommendations,
    Signature,
    read_signature,
    recommendations,
    slices,
    tensors,
)

__all__ = ["ClientError", "DeadlineExceeded", "InvalidRequest", "Recommendations", "RetrievalClient", "Unavailable"]

_OUTPUTS = ("item_id", "score", "count", "user_known")


class Unavailable(ClientError, ConnectionError):
    """No server answers at the address, it does not serve the model, or its queue is full. Later may work."""


class DeadlineExceeded(ClientError, TimeoutError):
    """The answer did not come within `timeout_s`."""


class RetrievalClient:
    """Asks one served model over gRPC; one connection, opened at the first call and reused. Threads may share it.

    The model's configuration is read once, at the first call, to learn its id types and limits.
    """

    def __init__(self, address: str = "127.0.0.1:8001", model: str = "retrieval", timeout_s: float = 10.0) -> None:
        if not timeout_s > 0:
            raise InvalidRequest(f"timeout_s: got {timeout_s!r}, expected a number of seconds above 0")
        self.address, self.model, self.timeout_s = address, model, timeout_s
        self._channel = grpc.InferenceServerClient(address)
        self._signature: Signature | None = None

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Return each user's best items, in the order of `user_ids`; the arguments are those of `ensemble.wire.Query`.

        More rows than the model takes at once go as several requests, one after the other.

        Raises
        ------
        InvalidRequest
            The request is wrong; found here or by the server.
        Unavailable, DeadlineExceeded, ClientError
            The server does not answer, not within `timeout_s` (of the whole call), or fails.
        """
        deadline = time.monotonic() + self.timeout_s
        query = Query(user_ids, top_k, exclude_item_ids, include_seen, columns or {}, timestamps, history, filters)
        signature = self.signature()
        answers: list[Recommendations] = []
        for start, arrays in slices(tensors(signature, query), signature.max_batch_size):
            try:
                answers += recommendations(self._infer(signature, arrays, deadline - time.monotonic()))
            except InvalidRequest as error:
                if start == 0:
                    raise
                raise InvalidRequest(f"{error} (counted from row {start} of the call)") from None
        return answers

    def signature(self) -> Signature:
        """Return what the model takes; asked of the server once."""
        if self._signature is None:
            try:
                response = self._channel.get_model_config(self.model, as_json=True, client_timeout=self.timeout_s)
            except InferenceServerException as error:
                raise meaning(error, self.address, self.model, self.timeout_s) from None
            self._signature = read_signature(response["config"])
        return self._signature

    def _infer(self, signature: Signature, arrays: Mapping[str, np.ndarray], seconds: float) -> Any:
        inputs = [as_input(name, signature.inputs[name], array) for name, array in arrays.items()]
        outputs = [grpc.InferRequestedOutput(name) for name in _OUTPUTS]
        try:
            return self._channel.infer(self.model, inputs, outputs=outputs, client_timeout=max(seconds, 1e-3))
        except InferenceServerException as error:
            raise meaning(error, self.address, self.model, self.timeout_s) from None


def as_input(name: str, data_type: str, array: np.ndarray) -> Any:
    """Return a request's input tensor."""
    tensor = grpc.InferInput(name, list(array.shape), data_type)
    tensor.set_data_from_numpy(array)
    return tensor


def meaning(error: InferenceServerException, address: str, model: str, timeout_s: float) -> ClientError:
    """Return the exception that says what a caller can do about a failed call."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = str(error.message()).removeprefix("[request id: <id_unknown>] ")
    if status == "INVALID_ARGUMENT":
        return InvalidRequest(message)
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{address}: no answer from model '{model}' within {timeout_s:g} s")
    if status in ("UNAVAILABLE", "NOT_FOUND", "RESOURCE_EXHAUSTED"):
        return Unavailable(
            f"{address}: {message}; is the server running (`retrieval serve RUN`), with model '{model}'?"
        )
    return ClientError(f"{address}: model '{model}' failed ({status or 'no status'}): {message}")
