"""The steps of a call to the server: what is sent, in which order, and when it is sent again.

A call is a generator: it yields a `Step`, and is sent the result or thrown the error of the step. So the
blocking client and the asyncio one differ only in how they wait.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.tensors import (
    ClientError,
    InvalidRequest,
    Query,
    Recommendations,
    Signature,
    read_signature,
    recommendations,
    slices,
    tensors,
)

_LATE = ("timeout expired", "Deadline Exceeded", "deadline exceeded")
"""How Triton words a request that waited too long in its queue; the status is that of a full queue."""
_AGAIN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
"""gRPC statuses of a server that did not take the request on."""
_PASSING = (
    ("INTERNAL", re.compile("is not healthy")),
    ("INVALID_ARGUMENT", re.compile(r"incomplete string |unexpected number of string elements ")),
    ("NOT_FOUND", re.compile("has no available versions")),
    ("CANCELLED", re.compile("^CANCELLED$")),
)
"""What Triton 2.51 says of a request that failed through no fault of its own, and with which status: the python process
died; another client's strings, in the same batch, were malformed (ours never are); the server is about to stop."""
_SHORTEST_S = 1e-3


class Unavailable(ClientError, ConnectionError):
    """No server answers at the address, it does not serve the model, or its queue is full. A later call may succeed."""


class DeadlineExceeded(ClientError, TimeoutError):
    """The answer did not come within `timeout_s`."""


@dataclass
class Peer:
    """The model that a client asks, with how much patience, and its signature once that is known."""

    address: str = "127.0.0.1:8001"
    model: str = "retrieval"
    timeout_s: float = 10.0
    """For a whole call, retries and all of its requests included. The server is told, and drops what is too late."""
    retries: int = 2
    """How often a request is sent again after `Unavailable`; asking changes nothing, so that asking twice is safe. A
    request that is wrong, too late or failed inside the server is never sent again."""
    backoff_s: float = 0.05
    """Longest pause before the first retry, doubled for each further one. The pause is drawn between 0 and that, so
    that the clients of a server that comes back do not all come at once."""
    signature: Signature | None = None

    def __post_init__(self) -> None:
        """Raise InvalidRequest for a number that is out of range."""
        for name in ("timeout_s", "backoff_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name}: got {getattr(self, name)!r}, expected a number of seconds above 0")
        if self.retries < 0:
            raise InvalidRequest(f"retries: got {self.retries!r}, expected 0 or more")


@dataclass(frozen=True)
class AskConfig:
    """Step: get the model's configuration as JSON."""

    seconds: float


@dataclass(frozen=True)
class Infer:
    """Step: one inference."""

    inputs: list[Any]
    outputs: list[Any]
    seconds: float

    def options(self) -> dict[str, Any]:
        """Return the arguments of tritonclient's `infer` besides the model."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "client_timeout": self.seconds,
            "timeout": int(self.seconds * 1e6),
        }


@dataclass(frozen=True)
class Pause:
    """Step: wait."""

    seconds: float


Step = Union[AskConfig, Infer, Pause]
Answered = Generator[Step, Any, list[Recommendations]]


def ask_signature(peer: Peer, deadline: float | None = None) -> Generator[Step, Any, Signature]:
    """Yield the steps that read the model's signature, once; return it."""
    if peer.signature is None:
        deadline = time.monotonic() + peer.timeout_s if deadline is None else deadline
        response = yield from _patiently(peer, deadline, AskConfig)
        peer.signature = read_signature(response["config"])
    return peer.signature


def ask(peer: Peer, query: Query) -> Answered:
    """Yield the steps that answer all rows of `query`, in as many requests as the model needs; return the answers."""
    deadline = time.monotonic() + peer.timeout_s
    signature = yield from ask_signature(peer, deadline)
    answers: list[Recommendations] = []
    for start, arrays in slices(tensors(signature, query), signature.max_batch_size):
        try:
            answers += yield from _infer(peer, signature, arrays, deadline)
        except InvalidRequest as error:
            if start == 0:
                raise
            raise InvalidRequest(f"{error} (counted from row {start} of the call)") from None
    return answers


def _infer(peer: Peer, signature: Signature, arrays: Mapping[str, np.ndarray], deadline: float) -> Answered:
    inputs = [as_input(name, signature.inputs[name], array) for name, array in arrays.items()]
    outputs = [grpc.InferRequestedOutput(name) for name in signature.outputs]
    result = yield from _patiently(peer, deadline, lambda seconds: Infer(inputs, outputs, seconds))
    return recommendations(result)


def _patiently(peer: Peer, deadline: float, step: Any) -> Generator[Step, Any, Any]:
    """Do `step(seconds left)`; repeat it where that is safe, may help and ends before the deadline."""
    for attempt in range(peer.retries + 1):
        try:
            return (yield step(max(deadline - time.monotonic(), _SHORTEST_S)))
        except InferenceServerException as error:
            meant = meaning(error, peer.address, peer.model, peer.timeout_s)
        pause = random.uniform(0, peer.backoff_s * 2**attempt)
        again = isinstance(meant, Unavailable) and meant.status in _AGAIN and attempt < peer.retries
        if not again or time.monotonic() + pause >= deadline:
            raise meant
        yield Pause(pause)
    raise AssertionError("the last attempt returns or raises")


def as_input(name: str, data_type: str, array: np.ndarray) -> Any:
    """Return a request's input tensor."""
    tensor = grpc.InferInput(name, list(array.shape), data_type)
    tensor.set_data_from_numpy(array)
    return tensor


def meaning(error: InferenceServerException, address: str, model: str, timeout_s: float) -> ClientError:
    """Return the exception for a failed call, by what the caller can do about it; its `status` is the gRPC status."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    message = str(error.message()).removeprefix("[request id: <id_unknown>] ")
    # Asking changes nothing, so it may be done again: a dead process is restarted, another server takes over.
    if any(status == kind and words.search(message) for kind, words in _PASSING):
        status = "UNAVAILABLE"
    meant: ClientError
    if status == "INVALID_ARGUMENT":
        meant = InvalidRequest(message)
    elif status == "DEADLINE_EXCEEDED" or any(late in message for late in _LATE):
        meant = DeadlineExceeded(f"{address}: no answer from model '{model}' within {timeout_s:g} s")
    elif status in ("NOT_FOUND", *_AGAIN):
        remedy = f"is the server running (`retrieval serve RUN`), with model '{model}'?"
        meant = Unavailable(f"{address}: {message}; {remedy}")
    else:
        meant = ClientError(f"{address}: model '{model}' failed ({status or 'no status'}): {message}")
    meant.status = status
    return meant
