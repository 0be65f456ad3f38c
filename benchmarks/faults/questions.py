"""Right requests for the fault scenarios, with the answers that they have to get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc

from benchmarks.faults.load import Question
from ensemble.client.channels import channel_options
from ensemble.client.retry import as_input
from ensemble.client.tensors import CLICKS, TIME, Query, Signature, read_signature, tensors
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.release import Release

Random = np.random.Generator
Array = npt.NDArray[Any]
_TOLERANCE = 1e-5
"""Two scores that differ by less may change places: BLAS adds in another order for other batch sizes."""


@dataclass(frozen=True)
class Subject:
    """A served model and what one must know of its release to ask it well and badly."""

    signature: Signature
    users: list[Any]
    items: list[Any]
    limits: Mapping[str, int]
    """The release's `serving` section."""

    @classmethod
    def of(cls, address: str, release: Path, model: str = "retrieval") -> Subject:
        """Read it from a running server and the release that it serves."""
        opened = Release.open(release)
        kinds = opened.manifest["id_dtype"]
        with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
            signature = read_signature(channel.get_model_config(model, as_json=True)["config"])
        users = read_values(opened, "users/user_id", kinds["user_id"]).tolist()
        return cls(
            signature, users, read_values(opened, "items/ids", kinds["item_id"]).tolist(), opened.manifest["serving"]
        )

    def queries(self, count: int, seed: int = 0) -> list[Query]:
        """Draw right queries of one row each, every one with a time, so that it has one answer."""
        random = np.random.default_rng(seed)
        drawn_queries = []
        for _ in range(count):
            (user,) = drawn(random, self.users, 1)
            clicks = [
                (item, int(random.integers(10**9))) for item in drawn(random, self.items, int(random.integers(4)))
            ]
            drawn_queries.append(
                Query(
                    [user],
                    int(random.integers(1, 50)),
                    exclude_item_ids=[drawn(random, self.items, int(random.integers(5)))],
                    include_seen=bool(random.random() < 0.2),
                    timestamps=[10**9] if TIME in self.signature.inputs else None,
                    history=[clicks] if CLICKS[0] in self.signature.inputs else None,
                )
            )
        return drawn_queries

    def inputs(self, query: Query) -> list[Any]:
        """Return a query as tritonclient's tensors."""
        arrays = tensors(self.signature, query)
        return [as_input(name, self.signature.inputs[name], array) for name, array in arrays.items()]


class Answer(NamedTuple):
    """What a request of one row was answered."""

    release: str
    ids: list[Any]
    scores: Array

    @classmethod
    def of(cls, result: Any) -> Answer:
        """Read it from tritonclient's result."""
        count = int(result.as_numpy("count")[0, 0])
        release = result.as_numpy("release")[0, 0].decode()
        return cls(release, result.as_numpy("item_id")[0, :count].tolist(), result.as_numpy("score")[0, :count])

    def differs(self, other: Answer) -> str | None:
        """Say how the other answer is not this one; items of the same score may change places."""
        if len(self.ids) != len(other.ids):
            return f"{len(other.ids)} items, expected {len(self.ids)}"
        if not np.allclose(self.scores, other.scores, rtol=0, atol=_TOLERANCE):
            return f"scores differ by {np.abs(self.scores - other.scores).max():.2g}"
        for place in np.flatnonzero([mine != theirs for mine, theirs in zip(self.ids, other.ids, strict=True)]):
            near = np.abs(self.scores - self.scores[place]) < _TOLERANCE
            last = place == len(self.ids) - 1  # what comes after it is not known
            if near.sum() < 2 and not last:
                return f"item {other.ids[place]!r} at place {place}, expected {self.ids[place]!r}"
        return None


def known_answers(address: str, model: str, requests: Sequence[list[Any]]) -> list[Answer]:
    """Ask each request once, alone, and return the answers."""
    with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
        return [Answer.of(channel.infer(model, inputs)) for inputs in requests]


def right_questions(address: str, subject: Subject, count: int, seed: int = 0) -> list[Question]:
    """Return right questions together with the answers that the server gives now."""
    questions = [subject.inputs(query) for query in subject.queries(count, seed)]
    model = subject.signature.model
    answers = known_answers(address, model, questions)
    return [
        Question(model, inputs, wrong=_differs_from(answer), about="a right request")
        for inputs, answer in zip(questions, answers, strict=True)
    ]


def malformed(result: Any) -> str | None:
    """Say what no answer may be, whatever was asked."""
    counts, ids, scores = (result.as_numpy(name) for name in ("count", "item_id", "score"))
    for row, count in enumerate(counts[:, 0].tolist()):
        own = scores[row, :count]
        if not np.isfinite(own).all() or (np.diff(own) > 0).any():
            return f"row {row}: scores are no ranking"
        if len(set(ids[row, :count].tolist())) != count:
            return f"row {row}: an item twice"
    return None


def _differs_from(expected: Answer) -> Callable[[Any], str | None]:
    return lambda result: expected.differs(Answer.of(result))


def drawn(random: Random, values: list[Any], count: int) -> list[Any]:
    """Draw values without changing what Python has of them."""
    return [values[place] for place in random.integers(len(values), size=count)]
