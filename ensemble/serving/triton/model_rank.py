"""The Triton model `retrieval_rank`: the last step of the chained layout, for a release with a ranker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InvalidRequest
from ..files.arrays import read_values
from ..files.release import Release
from ..names import CANDIDATES, FEATURES, LEAST, VECTOR
from ..retriever import RANKER_NS, Answer
from ..search.catalogue import on_wire
from ..search.ranker import Ranker
from ..selftest import SelfTest
from .model_base import BatchModel, check_inputs
from .steps import fed_by_a_client, packing, row_slices, split, steps_of, unpack
from .tensors import USER, Arrays, Outputs, Reader, Tensor

_Array = np.ndarray


class RankModel(BatchModel):
    """Candidates to the answer."""

    def load(self, release: Release, config: str) -> str:
        """Load the ranker and the items' ids; return how many candidates it expects."""
        steps = steps_of(release)
        assert steps.rank is not None
        check_inputs(config, steps.rank.inputs)
        outputs = release.json("query/transform.json")["outputs"]
        self._record, self._lists = packing(outputs), {feature["name"] for feature in outputs if feature["list"]}
        self._ranker = Ranker(release, self._record.names or ())
        self._named = [tensor.name for tensor in steps.rank.inputs if tensor.name in (self._record.names or ())]
        ids = on_wire(read_values(release, "items/ids", release.manifest["id_dtype"]["item_id"]))
        self._ids = np.append(ids, np.array([b"" if ids.dtype == object else 0], dtype=ids.dtype))
        controls = [tensor for tensor in steps.request if tensor.name in ("top_k", "exclude_item_ids")]
        self._most = max(self._ranker.candidates, int(release.manifest["serving"]["max_top_k"]))
        self._reader = Reader([Tensor(USER, "INT64", 1), *controls], release.manifest["serving"])
        return f"{self._ranker.candidates} candidates"

    def check(self, selftest: SelfTest) -> None:
        """Rank the sample queries' candidates."""
        selftest.check_ranking(self._ranker)

    def answer(self, sent: Sequence[Arrays]) -> list[Outputs]:
        """Return item_id, score and count of every request."""
        # To the reader nobody asks: who it is has been found out.
        nobody = [np.zeros((len(arrays[VECTOR]), 1), dtype=np.int64) for arrays in sent]
        request = self._reader.read([{**arrays, USER: ids} for arrays, ids in zip(sent, nobody, strict=True)])
        vectors, least = (np.concatenate([arrays[name] for arrays in sent]) for name in (VECTOR, LEAST))
        candidates = _padded([arrays[CANDIDATES] for arrays in sent])
        if candidates.shape[1] > self._most:
            raise InvalidRequest(f"{CANDIDATES}: {candidates.shape[1]} of a row, expected at most {self._most}")
        _check_candidates(candidates, self._ranker.items)
        self.budget().spend_each((candidates >= 0).sum(axis=1), RANKER_NS)
        with fed_by_a_client():
            ranked = self._ranker.rank(self._features(sent), vectors, candidates, request.top_k, least[:, 0])
        self.tally.answered(len(vectors), 0)
        ids = self._ids.take(ranked.item_index, mode="wrap")
        answer = Answer(ranked.item_index, ids, ranked.score, ranked.count, np.zeros(len(vectors), dtype=bool))
        return [outputs[:-1] for outputs in split(answer, self._ids, request, row_slices(sent, VECTOR))]

    def _features(self, sent: Sequence[Arrays]) -> dict[str, _Array]:
        if not self._named:
            return unpack(np.concatenate([arrays[FEATURES] for arrays in sent]), self._record)
        joined = {name: np.concatenate([arrays[name] for arrays in sent]) for name in self._named}
        return {name: values if name in self._lists else values[:, 0] for name, values in joined.items()}


def _check_candidates(candidates: _Array, items: int) -> None:
    """Raise InvalidRequest unless the candidates, int64 [n, m], are rows of the items, in each row before all -1."""
    lowest, highest = int(candidates.min(initial=0)), int(candidates.max(initial=-1))
    if lowest < -1 or highest >= items:
        raise InvalidRequest(
            f"{CANDIDATES}: got {lowest} to {highest}, expected rows of the {items} items, -1 past the last"
        )
    real = candidates >= 0
    holes = (~real[:, :-1] & real[:, 1:]).any(axis=1)
    if holes.any():
        raise InvalidRequest(f"{CANDIDATES}, row {int(holes.argmax())}: got -1 before another one, expected it last")


def _padded(candidates: Sequence[_Array]) -> _Array:
    """Concatenate arrays of different widths, filled with -1."""
    width = max(array.shape[1] for array in candidates)
    padded = [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=-1) for array in candidates]
    return np.concatenate(padded)
