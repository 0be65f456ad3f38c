"""A release that answers: user -> raw columns -> features -> vector -> items, a batch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .arrays import read_values
from .errors import InvalidRelease
from .features import QueryFeatures
from .history import History
from .ids import IdTable
from .index import ItemIndex
from .release import Release
from .search import ItemSearch
from .tensors import USER, Reader, Request, input_tensors, output_tensors


class Answer(NamedTuple):
    """The best items of every row, best first; ties stand in catalogue order."""

    item_index: np.ndarray
    """int64 [n, width], width = the largest top_k; -1 past `count`."""
    item_id: np.ndarray
    """int64, or `str` objects, [n, width]; 0 or "" past `count`."""
    score: np.ndarray
    """float32 [n, width]; -inf past `count`."""
    count: np.ndarray  # type: ignore[assignment]  # the wire's word; `tuple.count` is not missed
    """int32 [n]: how many of the row are real."""
    user_known: np.ndarray
    """bool [n]: whether the release has the user."""


class ItemAnswers:
    """The last step: query vectors to items, over the release's catalogue and what its users have seen."""

    def __init__(self, release: Release) -> None:
        """Load a verified release's items and histories; raise InvalidRelease where they do not fit each other."""
        self.release, manifest = release, release.manifest
        self.serving: dict[str, int] = manifest["serving"]
        self.outputs = output_tensors(manifest["id_dtype"])
        self.history = History(release)
        ids = read_values(release, "items/ids", manifest["id_dtype"]["item_id"])
        self._items = IdTable(ids)
        blank = "" if self._items.is_string else 0
        self.item_ids = np.append(ids, np.array([blank], dtype=ids.dtype))
        self.search = self._load_search()

    def nearest(self, vectors: np.ndarray, user_rows: np.ndarray, request: Request) -> Answer:
        """Answer with the query vectors, float32 [n, d], and rows of the users table, int64 [n], already known."""
        found = self.search(vectors, request.top_k, *self.left_out(user_rows, request))
        return Answer(found.item_index, self.item_ids[found.item_index], found.score, found.count, user_rows >= 0)

    def left_out(self, user_rows: np.ndarray, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Return row and item index, int64 [m] each, of what the answers must not hold; duplicates happen."""
        rows, items = self.history.seen(np.where(request.include_seen, -1, user_rows))
        named = [request.exclude] if len(request.exclude[0]) else []
        if request.clicks is not None:
            seen = ~request.include_seen[request.clicks.rows]
            named.append((request.clicks.rows[seen], request.clicks.item_ids[seen]))
        for named_rows, ids in named:
            index = self._items.rows_of(ids)
            known = index >= 0
            rows, items = np.concatenate([rows, named_rows[known]]), np.concatenate([items, index[known]])
        return rows, items

    def _load_search(self) -> ItemSearch:
        place, vectors = self.release.path / "items/vectors.npy", self.release.array("items/vectors.npy")
        expected = (len(self.item_ids) - 1, self.release.manifest["dim"])
        if vectors.shape != expected or vectors.dtype != np.float32 or not len(vectors):
            raise InvalidRelease(
                f"{place}: {vectors.dtype} {vectors.shape}, expected float32 {expected}, at least one row"
            )
        if not np.isfinite(vectors).all():
            raise InvalidRelease(f"{place}: holds a vector that is not finite")
        return ItemSearch(vectors, ItemIndex.load(self.release))


class Retriever(ItemAnswers):
    """All steps from a request to its answer, over one release."""

    def __init__(self, release: Release) -> None:
        """Load a verified release; raise InvalidRelease where its parts do not fit each other."""
        from .tower import Tower  # brings onnxruntime, which a process that only searches does without

        super().__init__(release)
        manifest = release.manifest
        stated = release.json("query/transform.json")
        self.features = QueryFeatures(release, self.history, self._items)
        self.transform, self.users = self.features.transform, self.features.users
        self.tower = Tower(release.path / "towers/query.onnx", self.serving["threads"])
        self._check_tower({one["name"] for one in stated["outputs"]})
        self.inputs = input_tensors(stated["inputs"], manifest["id_dtype"], self.transform.sequence is not None)
        self.reader = Reader(self.inputs, self.serving)

    @classmethod
    def load(cls, release: Path) -> Retriever:
        """Verify the release at the path and load it; raise InvalidRelease with the file and the reason."""
        return cls(Release.open(release))

    def answer(self, request: Request) -> Answer:
        """Answer every row; raise InvalidRequest naming the row whose query has no finite vector."""
        user_rows = self.users.rows_of(request.columns[USER].values)
        vectors = self.tower(self.features(request.columns, user_rows, request.clicks))
        return self.nearest(vectors, user_rows, request)

    def _check_tower(self, made: set[str]) -> None:
        if set(self.tower.inputs) - made:
            names = ", ".join(sorted(set(self.tower.inputs) - made))
            raise InvalidRelease(
                f"{self.release.path}: the query tower wants {names}, which the transform does not make"
            )
