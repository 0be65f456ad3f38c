"""The Triton model `retrieval` (python backend): one `execute()` answers every request that Triton has queued."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from .errors import InvalidRequest
from .retriever import Answer, Retriever
from .tensors import Arrays, Request
from .threads import limit_blas_threads


class TritonPythonModel:
    """What Triton's python backend calls; see its README for the three methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the release beside this file and answer a first request; an error here keeps Triton from serving."""
        check_numpy()
        directory = Path(args["model_repository"]) / args["model_version"]
        self.retriever = Retriever.load(directory / "release")
        limit_blas_threads(self.retriever.serving["threads"])
        _check_config(json.loads(args["model_config"]), self.retriever)
        ids = self.retriever.item_ids
        self._wire_ids = np.array([one.encode() for one in ids], dtype=object) if ids.dtype == object else ids
        for rows in (1, self.retriever.serving["max_batch_size"]):
            self.retriever.answer(self.retriever.reader([_first_request(self.retriever, rows)]))
        manifest = self.retriever.release.manifest
        counts = manifest["counts"]
        pb.Logger.log_info(
            f"release {manifest['release']}: {counts['users']} users, {counts['items']} items, NumPy {np.__version__}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests, in their order."""
        try:
            sent: list[Arrays] = [{one.name(): one.as_numpy() for one in request.inputs()} for request in requests]
        except Exception as error:  # what leaves execute() reaches the client with its traceback
            return [_failure(error) for _ in requests]
        responses: list[Any] = [None] * len(requests)
        for members in _alike(sent):
            for member, response in zip(members, self._answer([sent[one] for one in members]), strict=True):
                responses[member] = response
        return responses

    def finalize(self) -> None:
        """Let go of the release."""
        del self.retriever

    def _answer(self, sent: list[Arrays]) -> list[Any]:
        """Answer requests with the same set of inputs together; if that fails, each alone, to fail only who must."""
        try:
            return self._joint(sent)
        except Exception as error:
            if len(sent) > 1:
                return [self._answer([one])[0] for one in sent]
            return [_failure(error)]

    def _joint(self, sent: list[Arrays]) -> list[Any]:
        request = self.retriever.reader(sent)
        answer, responses, start = self.retriever.answer(request), [], 0
        for one in sent:
            stop = start + len(one["user_id"])
            responses.append(self._response(request, answer, slice(start, stop)))
            start = stop
        return responses

    def _response(self, request: Request, answer: Answer, rows: slice) -> Any:
        width = int(request.top_k[rows].max())
        index = answer.item_index[rows, :width]
        return pb.InferenceResponse(
            [
                pb.Tensor("item_id", self._wire_ids[index]),
                pb.Tensor("score", np.ascontiguousarray(answer.score[rows, :width])),
                pb.Tensor("count", answer.count[rows, None]),
                pb.Tensor("user_known", answer.user_known[rows, None]),
            ]
        )


def check_numpy() -> None:
    """Refuse a NumPy that Triton's stub cannot speak.

    A stub built for NumPy 1 hands NumPy 2 arrays whose elements are garbage, and aborts on strings. The rule: with
    NumPy 1 every stub works; with NumPy 2 an array must come back from the stub's own memory as it went in.
    """
    if int(np.__version__.split(".")[0]) < 2:
        return
    sample = np.arange(1, 8, dtype=np.int64)
    capsule = pb.Tensor("sample", sample).to_dlpack()
    if not np.array_equal(pb.Tensor.from_dlpack("sample", capsule).as_numpy(), sample):
        raise RuntimeError(
            f"NumPy {np.__version__} is installed, but this Triton's python stub was built for NumPy 1 and would serve "
            "garbage: install 'numpy<2' in the serving environment (requirements/serve.txt does)"
        )


def _failure(error: Exception) -> Any:
    if isinstance(error, InvalidRequest):
        return pb.InferenceResponse(error=pb.TritonError(str(error), pb.TritonError.INVALID_ARG))
    import traceback  # only ever needed here

    pb.Logger.log_error("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    text = f"internal error ({type(error).__name__}); the server's log has the details"
    return pb.InferenceResponse(error=pb.TritonError(text, pb.TritonError.INTERNAL))


def _alike(sent: Sequence[Arrays]) -> list[list[int]]:
    """Return the positions of the requests, grouped by the set of inputs that they sent."""
    groups: dict[frozenset[str], list[int]] = {}
    for position, one in enumerate(sent):
        groups.setdefault(frozenset(one), []).append(position)
    return list(groups.values())


def _first_request(retriever: Retriever, rows: int) -> Arrays:
    blank: Any = b"" if retriever.inputs[0].dtype == "BYTES" else 0
    dtype = object if retriever.inputs[0].dtype == "BYTES" else np.int64
    return {"user_id": np.full((rows, 1), blank, dtype=dtype)}


def _check_config(config: dict[str, Any], retriever: Retriever) -> None:
    """Refuse a model configuration that was written for another release."""
    found = {one["name"]: one["data_type"].replace("TYPE_STRING", "TYPE_BYTES") for one in config["input"]}
    expected = {one.name: f"TYPE_{one.dtype}" for one in retriever.inputs}
    if found != expected:
        raise RuntimeError(f"config.pbtxt has inputs {found}, the release {expected}: export the repository anew")
