"""The Triton model `retrieval`: every step, from a request to its answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..files.release import Release
from ..retriever import Retriever
from ..selftest import SelfTest
from .model_base import BatchModel, check_inputs
from .steps import row_slices, split
from .tensors import USER, Arrays, Outputs


class FusedModel(BatchModel):
    """Answers with the whole release in one process."""

    def load(self, release: Release, config: str) -> str:
        """Load the whole release; return its counts."""
        self.answers = self.retriever = Retriever(release)
        check_inputs(config, self.retriever.inputs)
        counts = release.manifest["counts"]
        return f"{counts['users']} users, {counts['items']} items"

    def check(self, selftest: SelfTest) -> None:
        """Answer the sample queries, and once the smallest and the largest batch."""
        selftest.check(self.retriever)
        for rows in (1, self.retriever.serving["max_batch_size"]):
            self.answer([_strangers(self.retriever, rows)])

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return item_id, score, count and user_known of every request."""
        budget = self.budget()
        request = self.retriever.reader.read(sent, budget)
        answer = self.retriever.answer(request, budget)
        self.count(answer)
        return split(answer, self.retriever.catalogue.wire_ids, request, row_slices(sent, USER))


def _strangers(retriever: Retriever, rows: int) -> Arrays:
    text = retriever.inputs[0].dtype == "BYTES"
    return {USER: np.full((rows, 1), b"" if text else 0, dtype=object if text else np.int64)}
