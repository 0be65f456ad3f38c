"""The Triton model `retrieval`: every step, from a request to its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..files.release import Release
from ..retriever import Answer, Retriever
from ..selftest import SelfTest
from .model_base import BatchModel, Outputs, check_inputs, row_slices
from .tensors import NO_SCORE, USER, Arrays, Request, extremes


class FusedModel(BatchModel):
    """Answers with the whole release in one process."""

    def load(self, release: Release, config: str) -> None:
        """Load the whole release."""
        self.retriever = Retriever(release)
        check_inputs(config, self.retriever.inputs)
        self.answers = self.retriever
        self._writer = AnswerWriter(lambda: self.retriever.catalogue.wire_ids)

    def check(self) -> None:
        """Answer the sample queries, and once the smallest and the largest batch."""
        selftest = SelfTest.load(self.release)
        selftest.check_features(self.retriever.features)
        selftest.check_vectors(self.retriever.tower.encode)
        selftest.check_answers(self.retriever)
        if self.retriever.ranker is not None:
            selftest.check_ranking(self.retriever.ranker)
        for rows in (1, self.retriever.serving["max_batch_size"]):
            self.answer([_strangers(self.retriever, rows)])

    def facts(self) -> str:
        """Return the counts."""
        counts = self.release.manifest["counts"]
        return f"{counts['users']} users, {counts['items']} items"

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return item_id, score, count and user_known of every request."""
        budget = self.budget()
        request = self.retriever.reader.read(sent, budget)
        answer = self.retriever.answer(request, budget)
        self.count(answer)
        return self._writer.outputs(answer, request, row_slices(sent, USER))


class AnswerWriter:
    """Splits the answer to a batch into the outputs of each request."""

    def __init__(self, wire_ids: Callable[[], np.ndarray]) -> None:
        """Take a function that returns the ids of all rows as they are sent, and that of no item at the end."""
        self._wire_ids = wire_ids

    def outputs(self, answer: Answer, request: Request, slices: Sequence[slice]) -> list[Outputs]:
        """Return each request's outputs, as wide as its largest top_k; past `count` scores are NO_SCORE."""
        text = answer.item_id.dtype == object
        ids = self._wire_ids()[answer.item_index] if text else answer.item_id
        counts, known, widest = answer.count[:, None], answer.user_known[:, None], ids.shape[1]
        scores = np.maximum(answer.score, NO_SCORE)
        if len(slices) == 1:
            return [[("item_id", ids), ("score", scores), ("count", counts), ("user_known", known)]]
        alike, outputs = extremes(request.top_k)[0] == widest, []
        for rows in slices:
            own, score = ids[rows], scores[rows]
            if not alike:
                width = int(request.top_k[rows].max())
                own, score = np.ascontiguousarray(own[:, :width]), np.ascontiguousarray(score[:, :width])
            outputs.append([("item_id", own), ("score", score), ("count", counts[rows]), ("user_known", known[rows])])
        return outputs


def _strangers(retriever: Retriever, rows: int) -> Arrays:
    blank: Any = b"" if retriever.inputs[0].dtype == "BYTES" else 0
    dtype = object if retriever.inputs[0].dtype == "BYTES" else np.int64
    return {USER: np.full((rows, 1), blank, dtype=dtype)}
