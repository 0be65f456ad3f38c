"""Load that counts: every request that was sent ends as answered, refused or lost, and nothing is asked twice.

Answered: an answer came, and it is the right one. Refused: an error that says what to do, INVALID_ARGUMENT (correct
the request) or UNAVAILABLE (ask again). Lost: all else, such as no answer in time, another error, a wrong answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from operator import add
from types import TracebackType
from typing import Any, NamedTuple

import tritonclient.grpc.aio as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client import RetrievalClient
from ensemble.client.channels import channel_options
from ensemble.client.retry import meaning
from ensemble.client.tensors import ClientError, InvalidRequest, Query

ANSWERED, REFUSED, LOST = "answered", "refused", "lost"
UNAVAILABLE = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_AFTER_REFUSAL_S = 0.02
"""A client that was told to come again does not do so at once."""
_KEPT = 200_000
_TIMEOUT_S = 60.0


def _right(_: Any) -> str | None:
    """Take any answer for the right one."""
    return None


@dataclass(frozen=True)
class Question:
    """A request, and what should become of it."""

    model: str
    inputs: list[Any]
    """tritonclient's input tensors."""
    expected: str = ANSWERED
    """`answered`, `refused` (INVALID_ARGUMENT), or "" where both are right."""
    wrong: Callable[[Any], str | None] = _right
    """What is wrong with an answer, None if nothing is."""
    about: str = ""


@dataclass
class Counts:
    """What became of the requests."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(add, asdict(self).values(), asdict(other).values()))


class Ended(NamedTuple):
    """A request that was not answered, or not as it should have been; times are those of `time.monotonic`."""

    sent_at: float
    ended_at: float
    outcome: str
    status: str
    message: str
    about: str


@dataclass
class Seen:
    """What a load saw."""

    counts: Counts = field(default_factory=Counts)
    answered_at: array[float] = field(default_factory=lambda: array("d"))
    latency_s: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[str] = field(default_factory=Counter)
    """How often each gRPC status came in place of an answer."""
    ended: list[Ended] = field(default_factory=list)
    unexpected: list[Ended] = field(default_factory=list)
    """What ended otherwise than its question says."""
    asked_again: int = 0

    def note(
        self,
        question: Question | None,
        sent_at: float,
        error: ClientError | None,
        wrong: str | None = None,
        again: bool = False,
    ) -> None:
        """Count a request that ended; `error` is what came in place of an answer, `wrong` what is wrong with it.

        `again`: it was refused and is asked again.
        """
        now = time.monotonic()
        outcome, status, message = ANSWERED, "", ""
        if error is not None:
            outcome = REFUSED if isinstance(error, InvalidRequest) or error.status in UNAVAILABLE else LOST
            status, message = error.status, str(error)
            self.statuses[status] += 1
        elif wrong is not None:
            outcome, message = LOST, wrong
        else:
            self.answered_at.append(now)
            self.latency_s.append(now - sent_at)
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        expected = ANSWERED if question is None else question.expected
        met = again or outcome == expected or (not expected and outcome != LOST)
        if met and outcome == ANSWERED:
            return
        ended = Ended(sent_at, now, outcome, status, message[:400], question.about if question else "")
        for examples, belongs in ((self.ended, outcome != ANSWERED), (self.unexpected, not met)):
            if belongs and len(examples) < _KEPT:
                examples.append(ended)


class Load:
    """Asks questions from a thread of its own, `in_flight` at a time, inside the block; it ends with them."""

    def __init__(
        self,
        address: str,
        questions: Iterable[Question],
        in_flight: int,
        rate: float | None = None,
        patience: int = 0,
    ) -> None:
        """Take a server's gRPC address and what to ask until there is no more.

        `rate` is requests per second, at most; None: as fast as answers come. What is refused with UNAVAILABLE is asked
        again `patience` times, and counted each time.
        """
        self.seen = Seen()
        self._address, self._questions = address, iter(questions)
        self._in_flight, self._rate, self._patience, self._due = in_flight, rate, patience, 0.0
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self.wait()

    def wait(self) -> None:
        """Return once all has been asked and every request has ended."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def ended(self) -> int:
        """Return how many requests have ended."""
        counts = self.seen.counts
        return counts.answered + counts.refused + counts.lost

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error

    async def _run(self) -> None:
        self._due = time.monotonic()
        async with grpc.InferenceServerClient(self._address, **channel_options(self._address)) as channel:
            await asyncio.gather(*(self._work(channel) for _ in range(self._in_flight)))

    async def _work(self, channel: Any) -> None:
        for question in self._questions:
            await self._turn()
            if self._stopping.is_set():
                return
            left = self._patience
            while await self._one(channel, question, left):
                left -= 1

    async def _turn(self) -> None:
        """Wait until it is time for the next request."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + 1.0 / self._rate
        if self._due > now:
            await asyncio.sleep(self._due - now)

    async def _one(self, channel: Any, question: Question, left: int) -> bool:
        """Ask once; return whether to ask again, which may be done `left` times."""
        sent_at, error, wrong = time.monotonic(), None, None
        self.seen.counts.sent += 1
        try:
            answer = await channel.infer(question.model, question.inputs, client_timeout=_TIMEOUT_S)
            wrong = question.wrong(answer)
        except InferenceServerException as raised:
            error = meaning(raised, self._address, question.model, _TIMEOUT_S)
        unavailable = error is not None and error.status in UNAVAILABLE
        again = unavailable and left > 0 and question.expected != REFUSED
        self.seen.asked_again += again
        self.seen.note(question, sent_at, error, wrong, again)
        if unavailable:
            await asyncio.sleep(_AFTER_REFUSAL_S)
        return again


class ClientLoad(Load):
    """The same through `ensemble.client.client`, which asks again where that is safe, as a user's program does.

    In threads: two event loops of grpc.aio in one process get into each other's way.
    """

    def __init__(self, address: str, queries: Iterable[Query], in_flight: int, model: str = "retrieval") -> None:
        super().__init__(address, [], in_flight)
        self._queries, self._model, self._lock = iter(queries), model, threading.Lock()

    def _main(self) -> None:
        try:
            with RetrievalClient(self._address, self._model) as client, ThreadPoolExecutor(self._in_flight) as pool:
                for done in [pool.submit(self._call, client) for _ in range(self._in_flight)]:
                    done.result()
        except BaseException as error:
            self._error = error

    def _call(self, client: RetrievalClient) -> None:
        while not self._stopping.is_set():
            with self._lock:
                query = next(self._queries, None)
                self.seen.counts.sent += query is not None
            if query is None:
                return
            sent_at, error = time.monotonic(), None
            try:
                client.ask(query)
            except ClientError as raised:
                error = raised
            with self._lock:
                self.seen.note(None, sent_at, error)


def percentile_ms(seconds: array[float], percent: float) -> float | None:
    """Return a percentile of latencies in milliseconds, None where there are none."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    return round(1000 * ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))], 2)


def until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until `done` says so; return whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def rate_over(moments: array[float], start: float, end: float) -> float:
    """Return how many of the moments lie between two, per second."""
    return sum(1 for moment in moments if start <= moment < end) / max(end - start, 1e-9)


def listed(ended: Iterable[Ended], most: int = 10) -> list[str]:
    """Return different endings in words, with how often each came, the most frequent first."""
    counts = Counter(
        f"{request.about}: {request.outcome} {request.status} {request.message}".strip(": ") for request in ended
    )
    return [f"{count} x {text}" for text, count in counts.most_common(most)]
