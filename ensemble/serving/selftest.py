"""Self-test of a release: sample queries with their features, vectors and answers; each model checks its own step.

Hashes prove that the files are those of the release; this proves that they give the same answers with this machine's
NumPy, onnxruntime and faiss.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidRelease
from .files.arrays import read_values
from .files.release import Release
from .query.features import QueryFeatures
from .query.sequence import TIME
from .query.transform import TRANSFORM, Column, described
from .search.candidates import has_ranker
from .triton.samples import read_samples
from .triton.tensors import USER, WIRE, Request

if TYPE_CHECKING:
    from .retriever import ItemAnswers, Retriever
    from .search.ranker import Ranker

FILE = "selftest.json"
TOLERANCE = 1e-4
"""By how much vectors and scores may differ between machines; relative to the largest of them where that is above 1."""
_USERS = 8
_TOP_K = 10
_STRANGER: Mapping[str, Any] = {"int64": -(2**63), "string": "\ufffd nobody"}


@dataclass(frozen=True)
class SelfTest:
    """Queries of some known users and a stranger, with their features, vectors and answers."""

    release: Release
    stated: Mapping[str, Any]

    @classmethod
    def load(cls, release: Release) -> SelfTest:
        """Read the sample queries; raise InvalidRelease if they do not fit the release."""
        if not release.has(FILE):
            raise InvalidRelease(f"{release.path / FILE}: missing; release the run again with this version")
        _, outputs = described(release.fields(f"query/{TRANSFORM}"))
        items = release.header("items/vectors.npy").shape[0]
        return cls(release, read_samples(release.fields(FILE), release.manifest, outputs, items, has_ranker(release)))

    @property
    def user_rows(self) -> np.ndarray:
        """Return the users' rows, int64 [n]; -1 for the stranger."""
        return np.array(self.stated["user_rows"], dtype=np.int64)

    def columns(self) -> dict[str, Column]:
        """Return the columns that the queries send: user and time."""
        ids, rows = self.stated["user_ids"], len(self.stated["user_rows"])
        values = np.array(ids, dtype=object if isinstance(ids[-1], str) else np.int64)
        return {USER: Column(values), TIME: Column(np.full(rows, self.stated["timestamp"], dtype=np.int64))}

    def request(self) -> Request:
        """Return the request of the queries to the search."""
        rows, none = len(self.stated["user_rows"]), np.zeros(0, dtype=np.int64)
        return Request({USER: Column(self.user_rows)}, np.full(rows, _TOP_K), np.zeros(rows, dtype=bool), (none, none))

    def canary(self, inputs: Collection[str]) -> dict[str, Any]:
        """Return one of the queries as a request with the `inputs` of the model, and its answer; see `canary`."""
        answers = self.stated.get("ranked", self.stated)
        scores = [[score for score in row if score is not None] for row in answers["scores"]]
        row = max(range(len(scores)), key=lambda place: len(scores[place]))
        types, stated = self.release.manifest["id_dtype"], self.stated
        ids = read_values(self.release, "items/ids", types["item_id"])
        sent = {
            USER: (WIRE[types[USER]], stated["user_ids"][row]),
            TIME: ("INT64", stated["timestamp"]),
            "top_k": ("INT32", max(1, len(scores[row]))),
        }
        return {
            "inputs": [
                {"name": name, "datatype": dtype, "shape": [1, 1], "data": [value]}
                for name, (dtype, value) in sent.items()
                if name in inputs
            ],
            "items": [
                item_id if isinstance(item_id, str) else int(item_id)
                for item_id in ids[answers["items"][row][: len(scores[row])]]
            ],
            "scores": scores[row],
        }

    def check(self, retriever: Retriever) -> None:
        """Raise InvalidRelease unless every step gives its recorded result."""
        self.check_features(retriever.features)
        self.check_vectors(retriever.tower.encode)
        self.check_answers(retriever)
        if retriever.ranker is not None:
            self.check_ranking(retriever.ranker)

    def check_features(self, features: QueryFeatures) -> None:
        """Raise InvalidRelease unless the transform gives the recorded features."""
        columns, rows = self.columns(), self.user_rows
        known = rows >= 0
        with self._checking("features"):
            self._compare("users", features.users.rows_of(columns[USER].values), rows)
            # With the stranger among them all are computed; what the release holds ready-made is taken without.
            alone = {name: Column(column.values[known]) for name, column in columns.items()}
            computed, ready = features.compute(columns, rows), features.compute(alone, rows[known])
            for name, listed in self.stated["features"].items():
                expected = np.array(listed, dtype=computed[name].dtype)
                self._compare(f"feature '{name}'", computed[name], expected)
                self._compare(f"feature '{name}'", ready[name], expected[known])

    def check_vectors(self, tower: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> None:
        """Raise InvalidRelease unless the tower gives the recorded vectors."""
        with self._checking("query vectors"):
            self._compare("query vectors", tower(self._features()), self._vectors())

    def check_answers(self, answers: ItemAnswers) -> None:
        """Raise InvalidRelease unless the search gives the recorded scores and, apart from ties, items."""
        with self._checking("answers"):
            answer = answers.nearest(self._vectors(), self.user_rows, self.request())
            self._compare_answers(answer.item_index, answer.score, self.stated)

    def check_ranking(self, ranker: Ranker) -> None:
        """Raise InvalidRelease unless the ranker gives the recorded order and scores."""
        with self._checking("ranking"):
            stated = self.stated["ranked"]
            candidates = np.array(stated["candidates"], dtype=np.int64)
            if candidates.max(initial=-1) >= ranker.items:
                raise self._failed("candidates")
            ranked = ranker.rank(self._features(), self._vectors(), candidates, self.request().top_k)
            self._compare_answers(ranked.item_index, ranked.score, stated)

    def _features(self) -> dict[str, np.ndarray]:
        types = {feature["name"]: feature["dtype"] for feature in self.release.json("query/transform.json")["outputs"]}
        return {name: np.array(values, dtype=types[name]) for name, values in self.stated["features"].items()}

    def _vectors(self) -> np.ndarray:
        return np.array(self.stated["vectors"], dtype=np.float32)

    def _compare_answers(self, items: np.ndarray, scores: np.ndarray, stated: Mapping[str, Any]) -> None:
        expected = np.array(stated["scores"], dtype=np.float32)
        self._compare("scores", scores, expected)
        gap, slack = np.abs(np.diff(expected, axis=1, prepend=np.inf)), _slack(expected)
        alone = gap > slack
        alone[:, :-1] &= alone[:, 1:]
        alone[:, -1] = False  # an equal one may wait in the place after the last
        if not np.array_equal(items[alone], np.array(stated["items"])[alone]):
            raise self._failed("items")

    @contextmanager
    def _checking(self, what: str) -> Iterator[None]:
        """Convert errors of our code, NumPy or onnxruntime that a release causes to InvalidRelease."""
        try:
            yield
        except InvalidRelease:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            raise InvalidRelease(
                f"{self.release.path}: self-test failed: {what}: {reason}; release it again"
            ) from error

    def _compare(self, what: str, actual: np.ndarray, expected: np.ndarray) -> None:
        real = np.isfinite(expected)
        if not np.array_equal(real, np.isfinite(actual)):  # nor where the shapes differ
            raise self._failed(what)
        if np.abs(actual[real] - expected[real]).max(initial=0) > _slack(expected):
            raise self._failed(what)

    def _failed(self, what: str) -> InvalidRelease:
        return InvalidRelease(
            f"{self.release.path}: self-test failed: {what} of the sample queries are not as when it was made; "
            "release it again, or compare the serving environment with requirements/serve.txt"
        )


def sample(retriever: Retriever) -> dict[str, Any]:
    """Return sample queries of the release with their results, for JSON."""
    release = retriever.release
    users = int(release.json("users/users.json")["rows"])
    known = np.unique(np.linspace(0, users - 1, min(users, _USERS)).astype(np.int64))
    ids = read_values(release, f"users/{USER}", release.manifest["id_dtype"][USER])
    times = release.array("history/timestamp.npy", np.int64)
    stranger = _STRANGER[release.manifest["id_dtype"][USER]]
    stated: dict[str, Any] = {
        "format": 1,
        "user_ids": [*(ids[row] if isinstance(ids[row], str) else int(ids[row]) for row in known), stranger],
        "user_rows": [*known.tolist(), -1],
        "timestamp": int(times.max(initial=0)) + 1,
    }
    test = SelfTest(release, stated)
    features = retriever.features.compute(test.columns(), test.user_rows)
    vectors = retriever.tower.encode(features)
    answer = retriever.nearest(vectors, test.user_rows, test.request())
    document = {
        **stated,
        "features": {name: values.tolist() for name, values in features.items()},
        "vectors": vectors.tolist(),
        **_listed(answer.item_index, answer.score),
    }
    if retriever.ranker is not None:
        ranker = retriever.ranker
        retrieved = retriever.nearest(vectors, test.user_rows, test.request(), ranker.candidates).item_index
        ranked = ranker.rank(features, vectors, retrieved, test.request().top_k)
        document["ranked"] = {"candidates": retrieved.tolist(), **_listed(ranked.item_index, ranked.score)}
    return document


def _listed(items: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    # JSON has no infinity: the score of a place that no item has.
    listed = [[score if score > -np.inf else None for score in row] for row in scores.tolist()]
    return {"items": items.tolist(), "scores": listed}


def _slack(expected: np.ndarray) -> float:
    return TOLERANCE * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
