"""The base of the Triton models (python backend): queued requests are answered as one batch."""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb

from ..errors import InvalidRelease, InvalidRequest, Unavailable
from ..files.release import Release
from ..names import RELEASE
from ..search.budget import Budget, TooMuch
from ..search.delta import DELTA
from ..selftest import SelfTest
from ..threads import limit_blas_threads
from .backlog import ADDRESS, DEFAULT_ADDRESS, Backlog
from .metrics import Reporter, RequestLog, Tally
from .pulse import Pulse
from .tensors import Arrays, Outputs, Tensor, most_entries
from .texts import text_reader

if TYPE_CHECKING:
    from ..retriever import Answer, ItemAnswers

_COUNTS = "i?"
"""Types of the outputs that take few values, as NumPy's characters: int32 and bool."""
_MOST_KEPT = 2048


class BatchModel:
    """The interface that Triton's python backend calls (see its README); subclasses define the answer."""

    release: Release

    def __init__(self) -> None:
        """Create an empty model; Triton calls `initialize` next."""
        self.answers: ItemAnswers | None = None
        """What changes while it serves, in the models that search."""
        self.tally = Tally()
        self._kept: dict[tuple[str, Any], Any] = {}
        self._name = np.zeros((1, 1), dtype=object)
        self._told: Any = None
        self._backlog: Backlog | None = None
        self._reporter: Reporter | None = None
        self._milliseconds = math.inf
        """What a request may take; while it loads and tries itself, anything."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the release beside the model and run its self-test; an exception keeps Triton from serving it."""
        check_numpy()
        directory = Path(args["model_repository"]) / args["model_version"]
        self.release = Release.open(directory / "release")
        check_release(directory / "config.pbtxt", self.release)
        self._call_it(self.release.manifest["release"])
        self._pulse = Pulse(self.release.manifest["serving"]["max_request_milliseconds"] / 1000)
        facts = self.load(self.release, args["model_config"])
        limit_blas_threads(self.release.manifest["serving"]["threads"])
        self.check(SelfTest.load(self.release))
        self._milliseconds = float(self.release.manifest["serving"]["max_request_milliseconds"])
        self._most_rows = int(self.release.manifest["serving"]["max_batch_size"])
        most = max(self._most_rows, most_entries("BYTES", self._milliseconds))
        pb.deserialize_bytes_tensor = text_reader(most)  # looked up by the backend for every input of texts
        if self.answers is not None and os.environ.get(DELTA):
            self.answers.follow(Path(os.environ[DELTA]))
            self._refreshed(self.answers)
        self._backlog = self._watched(args)
        self._report(args)
        gc.freeze()  # what is loaded stays: nothing for the collector to go through again and again
        pb.Logger.log_info(f"release {self.release.manifest['release']}: {facts}, NumPy {np.__version__}")

    def load(self, release: Release, config: str) -> str:
        """Load the model's parts of a verified release and return what the log says of them.

        `config` is Triton's configuration of the model, JSON.
        """
        raise NotImplementedError

    def check(self, selftest: SelfTest) -> None:
        """Answer the release's sample queries; raise InvalidRelease if the answers have changed."""
        raise NotImplementedError

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Answer requests that sent the same inputs; raise InvalidRequest if one of them is wrong."""
        raise NotImplementedError

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests in their order; refuse those that waited for too many rows."""
        try:
            sent: list[Arrays] = [
                {array.name(): array.as_numpy() for array in incoming.inputs()} for incoming in requests
            ]
        except Exception as error:  # what leaves execute() reaches the client with its traceback
            return [self._failure(error, request, 0) for request in requests]
        rows = [max(map(len, arrays.values()), default=0) for arrays in sent]
        self._pulse.begin(rows, self._most_rows)
        try:
            return self._within_limits(requests, sent, rows)
        finally:
            self._pulse.end()

    def _within_limits(self, requests: list[Any], sent: list[Arrays], rows: list[int]) -> list[Any]:
        if self._backlog is None:
            return self._executed(requests, sent)
        refused, start = self._backlog.begin(rows), time.perf_counter()
        try:
            if True not in refused:
                return self._executed(requests, sent)
            admitted = [position for position, no in enumerate(refused) if not no]
            answers = iter(self._executed([requests[place] for place in admitted], [sent[place] for place in admitted]))
            self.tally.refused("queue", sum(itertools.compress(rows, refused)), len(rows) - len(admitted))
            return [_full() if no else next(answers) for no in refused]
        finally:
            self._backlog.end(len(requests), time.perf_counter() - start)

    def _executed(self, requests: list[Any], sent: list[Arrays]) -> list[Any]:
        responses: list[Any] = [None] * len(requests)
        if self.answers is not None and requests:
            self._refresh(self.answers)
        start = time.thread_time()
        began: float | None = None
        for members in _alike(sent):
            answers = self._answers([sent[member] for member in members], began)
            began = began or start
            for member, answer in zip(members, answers, strict=True):
                responses[member] = self._response(requests[member], answer, sent[member])
        return responses

    def finalize(self) -> None:
        """Release everything."""
        if self._backlog is not None:
            self._backlog.close()
        if self._reporter is not None:
            self._reporter.close()
        self._kept.clear()  # tensors, whose memory is Triton's
        self._told = None

    def count(self, answer: Answer) -> None:
        """Count an answered batch."""
        rows = len(answer.user_known)
        self.tally.answered(rows, rows - int(np.count_nonzero(answer.user_known)))

    def _report(self, args: dict[str, str]) -> None:
        """Start counting and reporting to Triton's metrics."""
        inputs, model = {column["name"] for column in json.loads(args["model_config"])["input"]}, args["model_name"]
        self.tally, self._log = Tally(inputs, self.answers is not None), RequestLog(model)
        labels = {"model": model, "version": args["model_version"]}
        self._reporter = Reporter(self.tally, pb.MetricFamily, labels, self.release.manifest["release"])
        if self.answers is not None:
            self.answers.tally, self._reporter.catalogue = self.tally, self.answers.size

    def _watched(self, args: dict[str, str]) -> Backlog | None:
        """Return the limit on rows that wait for this model; None if the recipe sets none."""
        limit = self.release.manifest["serving"]["max_queue_rows"]
        if not limit:
            return None
        address = os.environ.get(ADDRESS, DEFAULT_ADDRESS)
        return Backlog(args["model_name"], args["model_version"], limit, address, pb.Logger.log_warn)

    def _refresh(self, answers: ItemAnswers) -> None:
        """Apply new changes of the catalogue; after a refused one, the previous state stays in service."""
        try:
            if answers.refresh():
                self._refreshed(answers)
        except Exception as error:
            self._refreshed(answers)
            pb.Logger.log_error(f"a change of the catalogue was refused, {answers.name} goes on serving: {error}")

    def _call_it(self, name: str) -> None:
        self._name = np.array([[name.encode()]], dtype=object)
        self._told = None

    def _refreshed(self, answers: ItemAnswers) -> None:
        self._call_it(answers.name)
        size = answers.size
        pb.Logger.log_info(f"catalogue {answers.name}: {size[0]} items")
        if self._reporter is not None:
            self._reporter.catalogue = size

    def budget(self) -> Budget:
        """Return the budget of requests that are answered together."""
        return Budget(self._milliseconds)

    def _answers(self, sent: list[Arrays], began: float | None = None) -> list[Outputs | Exception]:
        """Answer requests with the same set of inputs together; on failure, in parts, so that only the wrong ones fail.

        If they take too long together, the last ones are refused for now.
        """
        if began is not None and time.thread_time() - began > self._milliseconds / 1000:
            return [Unavailable("too many rows wait: those that it came with take all of the time; ask again")] * len(
                sent
            )
        start = time.thread_time()
        try:
            return list(self.answer(sent))
        except Exception as error:
            if isinstance(error, Unavailable):
                return [error] * len(sent)  # none of them would fare better alone
            if len(sent) == 1:
                return [error]
            cut = _first_part(sent, error)
        return [*self._answers(sent[:cut], began), *self._answers(sent[cut:], start if began is None else began)]

    def _response(self, request: Any, answer: Outputs | Exception, sent: Arrays) -> Any:
        if isinstance(answer, Exception):
            return self._failure(answer, request, max(map(len, sent.values()), default=0))
        tensors = [self._tensor(name, array) for name, array in answer]
        if self.answers is not None and RELEASE in request.requested_output_names():
            tensors.append(self._release(len(answer[0][1])))
        return pb.InferenceResponse(tensors)

    def _failure(self, error: Exception, request: Any, rows: int) -> Any:
        """Return the response to a request that was wrong or met a defect; count it, and log it with its id."""
        if isinstance(error, InvalidRequest):
            reason, message = self.tally.reason(str(error)), str(error)
            self._note("refused", request, reason=reason, message=message)
            failure = pb.TritonError(message, pb.TritonError.INVALID_ARG)
        elif isinstance(error, Unavailable):
            reason = "unavailable"
            self._note("failed", request, message=str(error))
            failure = pb.TritonError(str(error), pb.TritonError.UNAVAILABLE)
        else:
            import traceback  # only ever needed here

            reason, kind = "internal", type(error).__name__
            self._note("failed", request, error=traceback.format_exception(type(error), error, error.__traceback__))
            text = f"internal error ({kind}); the server's log has the details"
            failure = pb.TritonError(text, pb.TritonError.INTERNAL)
        self.tally.refused(reason, rows)
        # The frames of its traceback hold the request's arrays, and one of them the error itself: a circle that only
        # the collector would open, long after Triton wants the memory back.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return pb.InferenceResponse(error=failure)

    def _note(self, event: str, request: Any, **facts: Any) -> None:
        line = self._log.line(event, request.request_id(), **facts)
        if line is not None:
            (pb.Logger.log_error if event == "failed" else pb.Logger.log_warn)(line)

    def _tensor(self, name: str, array: np.ndarray) -> Any:
        """Return an output; one with few distinct values (a count, a truth value) is cached.

        Making a tensor takes the stub longer than the step whose result it carries.
        """
        if array.size != 1 or array.dtype.char not in _COUNTS:
            return pb.Tensor(name, array)
        key = name, array.item()
        tensor = self._kept.get(key)
        if tensor is None:
            tensor = pb.Tensor(name, array.copy())
            if len(self._kept) < _MOST_KEPT:
                self._kept[key] = tensor
        return tensor

    def _release(self, rows: int) -> Any:
        if rows > 1:
            return pb.Tensor(RELEASE, self._name.repeat(rows, axis=0))
        if self._told is None:
            self._told = pb.Tensor(RELEASE, self._name)
        return self._told


def check_numpy() -> None:
    """Refuse a NumPy that Triton's stub does not support.

    A stub built for NumPy 1 passes garbage to NumPy 2, and aborts on strings. With NumPy 1 every stub works; with NumPy
    2 an array must come back from the stub's own memory unchanged.
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


def check_release(config: Path, release: Release) -> None:
    """Refuse a release other than the one in the version's own configuration, which was written of the verified one.

    Triton's argument is no help: while chained models are exchanged, two versions share one configuration.
    """
    stated = f'key: "{RELEASE}" value {{ string_value: "{release.manifest["release"]}" }}'
    if stated not in config.read_text(encoding="utf-8"):
        raise InvalidRelease(
            f"{release.path}: is release {release.manifest['release']}, {config} is of another: export the repository "
            "again"
        )


def check_inputs(config: str, tensors: Sequence[Tensor]) -> None:
    """Refuse a model configuration that was written for another release."""
    stated = json.loads(config)["input"]
    inputs = {tensor["name"]: tensor["data_type"].replace("TYPE_STRING", "TYPE_BYTES") for tensor in stated}
    expected = {tensor.name: f"TYPE_{tensor.dtype}" for tensor in tensors}
    if inputs != expected:
        raise RuntimeError(f"config.pbtxt has inputs {inputs}, the release {expected}: export the repository again")


def _full() -> Any:
    text = "too many rows wait for this model; ask again later"
    return pb.InferenceResponse(error=pb.TritonError(text, pb.TritonError.UNAVAILABLE))


def _alike(sent: Sequence[Arrays]) -> list[list[int]]:
    """Return the positions of the requests, grouped by their sets of inputs, the smallest first."""
    groups: dict[frozenset[str], list[int]] = {}
    for position, arrays in enumerate(sent):
        groups.setdefault(frozenset(arrays), []).append(position)
    return sorted(groups.values(), key=lambda members: len(sent[members[0]]))


def _first_part(sent: Sequence[Arrays], error: Exception) -> int:
    """Return how many of several requests to answer first if they cannot be answered together: half, or those within
    the time.
    """
    half = len(sent) // 2
    if not isinstance(error, TooMuch):
        return half
    ends = np.cumsum([max(map(len, arrays.values())) for arrays in sent])
    return max(1, min(half, int(ends.searchsorted(error.row, side="right"))))
