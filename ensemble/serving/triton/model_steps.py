"""The Triton models `retrieval_transform`, `retrieval_tower` and `retrieval_search`: the steps of the chained layout.

Each process loads only its part of the release and the libraries for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidRequest
from ..files.arrays import trained_ids
from ..files.release import Release
from ..names import CANDIDATES, FEATURES, KNOWN, LEAST, USER_ROW, VECTOR
from ..query.features import QueryFeatures
from ..query.history import History
from ..search.candidates import candidates_of
from ..search.scoring import check_queries
from ..selftest import SelfTest
from .model_base import BatchModel, check_inputs
from .steps import fed_by_a_client, pack, packing, row_slices, split, steps_of, unpack
from .tensors import NO_SCORE, USER, Arrays, Outputs, Reader, Request, Tensor, extremes

if TYPE_CHECKING:
    from ..retriever import Answer


class TransformModel(BatchModel):
    """Raw columns to features."""

    def load(self, release: Release, config: str) -> str:
        """Load the transform, the users and their histories; return the number of users."""
        steps = steps_of(release)
        check_inputs(config, steps.transform.inputs)
        self._reader = Reader(steps.request, release.manifest["serving"])
        self._features = QueryFeatures(release, History(release), trained_ids(release))
        self._record = packing(self._features.transform.outputs)
        self._named = [tensor.name for tensor in steps.transform.outputs if tensor.name not in (FEATURES, USER_ROW)]
        return f"{release.manifest['counts']['users']} users"

    def check(self, selftest: SelfTest) -> None:
        """Transform the sample queries."""
        selftest.check_features(self._features)

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return the features, packed or by name, and the user's row of every request."""
        budget = self.budget()
        request = self._reader.read(sent, budget)
        user_rows = self._features.users.rows_of(request.columns[USER].values)
        features = self._features.compute(request.columns, user_rows, request.clicks, budget)
        self.tally.answered(len(user_rows), int(np.count_nonzero(user_rows < 0)))
        outputs: Outputs = [(name, features[name].reshape(len(user_rows), -1)) for name in self._named]
        if not self._named:
            outputs = [(FEATURES, pack(features, self._record, len(user_rows)))]
        outputs.append((USER_ROW, user_rows[:, None]))
        return [[(name, array[rows]) for name, array in outputs] for rows in row_slices(sent, USER)]


class TowerModel(BatchModel):
    """Features to the query vector."""

    def load(self, release: Release, config: str) -> str:
        """Load the query tower; return the width of its vectors."""
        from ..query.tower import Tower

        self._tower = Tower(release, threads=release.manifest["serving"]["threads"])
        self._record = packing(release.json("query/transform.json")["outputs"])
        return f"{release.manifest['dim']} dimensions"

    def check(self, selftest: SelfTest) -> None:
        """Encode the sample queries."""
        selftest.check_vectors(self._tower.encode)

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return the vectors of every request."""
        packed = sent[0][FEATURES] if len(sent) == 1 else np.concatenate([arrays[FEATURES] for arrays in sent])
        with fed_by_a_client():
            vectors = self._tower.encode(unpack(packed, self._record))
        self.tally.answered(len(vectors), 0)
        return [[(VECTOR, vectors[rows])] for rows in row_slices(sent, FEATURES)]


class SearchModel(BatchModel):
    """The query vector to the answer."""

    def load(self, release: Release, config: str) -> str:
        """Load the items, the index and what each user has seen; return the number of items."""
        from ..retriever import ItemAnswers

        steps = steps_of(release)
        check_inputs(config, steps.search.inputs)
        self.answers = self._catalogue = ItemAnswers(release)
        self._candidates = candidates_of(release) if steps.rank else None
        self._users = release.manifest["counts"]["users"]
        controls = [tensor for tensor in steps.search.inputs if tensor.name not in (VECTOR, USER_ROW)]
        # To the reader a user is the row that the transform found.
        times = [Tensor("history_timestamps", "INT64", -1, True, True)]
        self._reader = Reader([Tensor(USER, "INT64", 1), *controls, *times], release.manifest["serving"])
        return f"{release.manifest['counts']['items']} items"

    def check(self, selftest: SelfTest) -> None:
        """Answer the sample queries."""
        selftest.check_answers(self._catalogue)

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return item_id, score, count and user_known of every request."""
        budget = self.budget()
        request = self._reader.read([_as_read(arrays) for arrays in sent], budget)
        lowest, highest = extremes(request.columns[USER].values)
        if lowest < -1 or highest >= self._users:
            raise InvalidRequest(
                f"{USER_ROW}: got {lowest if lowest < -1 else highest}, expected 0 to {self._users - 1}, or -1 for a "
                "stranger"
            )
        vectors = sent[0][VECTOR] if len(sent) == 1 else np.concatenate([arrays[VECTOR] for arrays in sent])
        check_queries(vectors)
        answer = self._catalogue.nearest(vectors, request.columns[USER].values, request, self._candidates, budget)
        self.count(answer)
        if self._candidates is not None:
            return self._for_ranking(answer, request, row_slices(sent, VECTOR))
        return split(answer, self._catalogue.catalogue.wire_ids, request, row_slices(sent, VECTOR))

    def _for_ranking(self, answer: Answer, request: Request, slices: Sequence[slice]) -> list[Outputs]:
        """Return the candidates of each request, and the minimum scores of its answers."""
        least = self._catalogue.least_scores(request)
        if least is None:
            least = np.full(len(answer.count), NO_SCORE, dtype=np.float32)
        of_rows: Outputs = [(LEAST, least[:, None]), (KNOWN, answer.user_known[:, None])]
        outputs = []
        for rows in slices:
            width = max(1, int(answer.count[rows].max()))
            candidates = np.ascontiguousarray(answer.item_index[rows, :width])
            outputs.append([(CANDIDATES, candidates), *((name, array[rows]) for name, array in of_rows)])
        return outputs


def _as_read(arrays: Arrays) -> Arrays:
    """Return the arrays of a request as the reader expects them: a history's items come without their times."""
    read = {**arrays, USER: arrays[USER_ROW]}
    clicks = read.get("history_item_ids")
    if clicks is not None:
        read["history_timestamps"] = np.zeros(clicks.shape, dtype=np.int64)
    return read
