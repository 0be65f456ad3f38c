"""The canary over gRPC; see `ensemble/serving/triton/canary.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from ensemble.client.channels import channel_options
from ensemble.client.retry import as_input
from ensemble.client.tls import ClientTls
from ensemble.serving.triton.canary import OUTPUTS, PARAMETER, Answer, Result, Trouble, check, state_of

CanaryResult = Result


def canary(
    address: str, model: str | None = None, timeout_s: float = 2.0, tls: ClientTls | None = None
) -> CanaryResult:
    """Ask a server, host:port, a question whose answer is known, and judge the answer; nothing that it does is raised.

    The model is by default the one of ours that the server has; the time-out is for each of two requests: the
    configuration, which holds the answer, and the inference.
    """
    with grpc.InferenceServerClient(address, **channel_options(address, tls)) as client:
        return check(OverGrpc(client, timeout_s), model)


class OverGrpc:
    """A server asked over gRPC; see `canary.Server`."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        """Take tritonclient's `InferenceServerClient`."""
        self._client, self._timeout = client, timeout_s

    def config(self, model: str) -> Mapping[str, Any]:
        """Return the model's configuration."""
        config: Mapping[str, Any] = self._ask("get_model_config", model, as_json=True)["config"]
        return config

    def infer(self, model: str, inputs: Sequence[Mapping[str, Any]]) -> Answer:
        """Return the answer to a request."""
        tensors = [
            as_input(
                tensor["name"],
                tensor["datatype"],
                np.array(tensor["data"], dtype=triton_to_np_dtype(tensor["datatype"])).reshape(tensor["shape"]),
            )
            for tensor in inputs
        ]
        outputs = [grpc.InferRequestedOutput(name) for name in OUTPUTS]
        response = self._ask("infer", model, inputs=tensors, outputs=outputs, request_id=PARAMETER)
        row = {name: response.as_numpy(name)[0] for name in OUTPUTS}
        items = [item_id.decode() if isinstance(item_id, bytes) else item_id for item_id in row["item_id"].tolist()]
        version = str(response.get_response().model_version)
        return Answer(items, row["score"].tolist(), int(row["count"][0]), row["release"][0].decode(), version)

    def answered(self, model: str) -> int:
        """Return how many requests the model has answered."""
        stats = self._ask("get_inference_statistics", model, as_json=True).get("model_stats", [])
        return sum(int(version.get("inference_stats", {}).get("success", {}).get("count", 0)) for version in stats)

    def _ask(self, method: str, model: str, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(model, client_timeout=self._timeout, **options)
        except InferenceServerException as error:
            status, message = str(error.status() or ""), str(error.message())
            raise Trouble(_state(status, message), f"{status.removeprefix('StatusCode.')}: {message}") from None


def _state(status: str, message: str) -> str:
    if status.endswith("DEADLINE_EXCEEDED"):
        return "late"
    reported = state_of(message)
    return "unreachable" if reported == "failed" and status.endswith(("UNAVAILABLE", "NOT_FOUND")) else reported
