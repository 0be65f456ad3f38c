"""Answers of a release: user, raw columns, features, query vector, items; a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import InvalidRelease
from .files.release import Release
from .query.features import QueryFeatures
from .query.history import History
from .search.budget import Budget
from .search.candidates import has_ranker
from .search.catalogue import Catalogue
from .search.delta import DeltaLog
from .search.filtered_search import search_filtered
from .search.search import ItemSearch
from .triton.metrics import Tally
from .triton.tensors import NO_SCORE, USER, Reader, Request, input_tensors, output_tensors

if TYPE_CHECKING:
    from .search.ranker import Ranker

RANKER_NS = 5000.0
"""Nanoseconds of a ranker per candidate: the slowest one in docs/models.md."""


class Answer(NamedTuple):
    """The best items of every row, best first; ties stand in catalogue order."""

    item_index: np.ndarray
    """int64 [n, width], width = the largest top_k; -1 past `count`."""
    item_id: np.ndarray
    """int64, or `str` objects, [n, width]; 0 or "" past `count`."""
    score: np.ndarray
    """float32 [n, width]; -inf past `count`, which leaves the server as `NO_SCORE`."""
    count: np.ndarray  # type: ignore[assignment]  # the wire's word; `tuple.count` is not missed
    """int32 [n]: how many of the row are real."""
    user_known: np.ndarray
    """bool [n]: whether the release has the user."""


class ItemAnswers:
    """The last step: query vectors to items, given the catalogue and what users have seen."""

    def __init__(self, release: Release) -> None:
        """Load the items and histories of a verified release; raise InvalidRelease if they do not fit each other."""
        self.release, manifest = release, release.manifest
        self.serving: dict[str, int] = manifest["serving"]
        self.outputs = output_tensors(manifest["id_dtype"])
        self.history = History(release)
        self.catalogue = Catalogue.load(release)
        """The current items. Read it once per answer; `refresh` replaces it."""
        self._log: DeltaLog | None = None
        self.tally = Tally()
        """Counts the searches."""

    @property
    def item_ids(self) -> np.ndarray:
        """Return the id of every row of the catalogue, followed by the placeholder for no item."""
        return self.catalogue.item_ids

    @property
    def search(self) -> ItemSearch:
        """Return the search over the current items."""
        return self.catalogue.search

    def follow(self, directory: Path) -> None:
        """Apply all changes in a delta directory; `refresh` applies those that appear later.

        Raises
        ------
        InvalidRelease
            There is no such directory, or a package in it is damaged.
        """
        self._log = DeltaLog(directory, self.release)
        self.refresh()

    def refresh(self) -> bool:
        """Apply new changes; return whether there were any. Without changes this takes one system call.

        Raises Exception: a package is damaged or does not fit; InvalidRelease says why. The catalogue stays as it was.
        """
        if self._log is None or not self._log.changed():
            return False
        while self._log.changed():
            with self._log.following() as delta:
                if has_ranker(self.release) and not delta.removes:
                    raise InvalidRelease(f"{delta.path}: the release ranks, and its ranker knows no new items; retrain")
                self.catalogue = self.catalogue.with_delta(delta)
        return True

    @property
    def name(self) -> str:
        """Return the release's id and, after changes, the number of the last one: `566afa9a+7`."""
        sequence = 0 if self._log is None else self._log.sequence
        return f"{self.release.manifest['release']}+{sequence}" if sequence else str(self.release.manifest["release"])

    @property
    def size(self) -> tuple[int, int]:
        """Return the number of live items, and the number of changes that were applied."""
        return int(self.catalogue.rows.live.sum()), 0 if self._log is None else self._log.sequence

    def nearest(
        self,
        vectors: np.ndarray,
        user_rows: np.ndarray,
        request: Request,
        candidates: int | None = None,
        budget: Budget | None = None,
    ) -> Answer:
        """Search for the best items of each row.

        Parameters
        ----------
        vectors
            Query vectors, float32 [n, d].
        user_rows
            Rows of the users table, int64 [n]; -1 for an unknown user.
        request
            What the rows ask for: top_k, exclusions, filters.
        candidates
            For a ranker: at least that many items per row, and none left out by its score.
        budget
            The time that the request may take; None: no limit.

        Returns
        -------
        Answer
            Items and scores, [n, width], width = the largest top_k.

        Raises
        ------
        InvalidRequest
            A filter is wrong; names the row.
        TooMuch
            The search would exceed the budget; nothing was searched.
        """
        start, catalogue, filtered = perf_counter(), self.catalogue, 0
        rows, items = self.left_out(catalogue, user_rows, request)
        counts = request.top_k
        if candidates is not None:
            counts = np.maximum(counts, min(candidates, len(catalogue.rows.live)))
            if budget is not None:
                budget.spend_each(counts, RANKER_NS)
        if request.filters is None:
            best = catalogue.search.nearest(vectors, counts, rows, items, budget=budget)
        else:
            filters = catalogue.filters.of_rows(request.filters, budget)
            if candidates is not None:
                filters = [of_row and of_row._replace(min_score=None) for of_row in filters]
            best = search_filtered(catalogue.search, vectors, counts, rows, items, filters, budget)
            masks = [of_row.mask for of_row in filters if of_row is not None and of_row.mask is not None]
            filtered = sum(mask.total - mask.count for mask in masks)
        ids = catalogue.item_ids.take(best.item_index, mode="wrap")  # -1 is the last: no item
        short = int(np.count_nonzero(best.count < request.top_k))
        self.tally.searched(perf_counter() - start, short, len(rows), filtered)
        return Answer(best.item_index, ids, best.score, best.count, user_rows >= 0)

    def least_scores(self, request: Request) -> np.ndarray | None:
        """Return the minimum score of each row's answers, finite float32 [n]; None if no row has one."""
        if request.filters is None:
            return None
        least: list[float] = [
            float(NO_SCORE) if of_row is None or of_row.min_score is None else of_row.min_score
            for of_row in self.catalogue.filters.of_rows(request.filters)
        ]
        return np.asarray(np.clip(least, NO_SCORE, -NO_SCORE), dtype=np.float32)

    def left_out(self, catalogue: Catalogue, user_rows: np.ndarray, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Return row and item index, int64 [m] each, of items that answers must not hold, possibly with duplicates."""
        rows, items = self.history.seen(user_rows, request.include_seen)
        items = catalogue.current(items)
        named = [request.exclude] if len(request.exclude[0]) else []
        if request.clicks is not None:
            leaves_seen_out = ~request.include_seen[request.clicks.rows]
            named.append((request.clicks.rows[leaves_seen_out], request.clicks.item_ids[leaves_seen_out]))
        for named_rows, ids in named:
            index = catalogue.ids.rows_of(ids)
            known = index >= 0
            rows, items = np.concatenate([rows, named_rows[known]]), np.concatenate([items, index[known]])
        return rows, items


class Retriever(ItemAnswers):
    """All steps from a request to its answer, for one release."""

    def __init__(self, release: Release) -> None:
        """Load a verified release; raise InvalidRelease if its parts do not fit each other."""
        from .query.tower import Tower  # brings onnxruntime, which a process that only searches does without
        from .search.ranker import Ranker

        super().__init__(release)
        manifest = release.manifest
        self.features = QueryFeatures(release, self.history, self.catalogue.trained_ids)
        self.transform, self.users = self.features.transform, self.features.users
        self.tower = Tower(release, threads=self.serving["threads"])
        features = {feature["name"] for feature in self.transform.outputs}
        self._check_tower(features)
        self.ranker = Ranker(release, features) if has_ranker(release) else None
        self.inputs = input_tensors(self.transform.inputs, manifest["id_dtype"], self.transform.sequence is not None)
        self.reader = Reader(self.inputs, self.serving)

    @classmethod
    def load(cls, release: Path, delta: Path | None = None) -> Retriever:
        """Verify and load a release.

        Parameters
        ----------
        release
            Directory of the release.
        delta
            Directory of catalogue changes to follow; None: none.

        Raises
        ------
        InvalidRelease
            The release or a change is damaged; names the file and the reason.
        """
        retriever = cls(Release.open(release))
        if delta is not None:
            retriever.follow(delta)
        return retriever

    def answer(self, request: Request, budget: Budget | None = None) -> Answer:
        """Answer every row of a request.

        Parameters
        ----------
        request
            n rows: raw query columns, top_k, exclusions, filters.
        budget
            The time that the request may take; None: no limit.

        Returns
        -------
        Answer
            Items and scores, [n, width], best first; width = the largest top_k.

        Raises
        ------
        InvalidRequest
            A query has no finite vector, or a filter is wrong; names the row.
        TooMuch
            The answer would exceed the budget.
        """
        user_rows = self.users.rows_of(request.columns[USER].values)
        features = self.features.compute(request.columns, user_rows, request.clicks, budget)
        vectors = self.tower.encode(features)
        if self.ranker is None:
            return self.nearest(vectors, user_rows, request, budget=budget)
        return self.ranked(self.ranker, features, vectors, user_rows, request, budget)

    def ranked(
        self,
        ranker: Ranker,
        features: Mapping[str, np.ndarray],
        vectors: np.ndarray,
        user_rows: np.ndarray,
        request: Request,
        budget: Budget | None = None,
    ) -> Answer:
        """Retrieve candidates by query vector, float32 [n, d], and return those that the ranker scores best."""
        retrieved = self.nearest(vectors, user_rows, request, ranker.candidates, budget)
        least = self.least_scores(request)
        ranked = ranker.rank(features, vectors, retrieved.item_index, request.top_k, least)
        ids = self.item_ids.take(ranked.item_index, mode="wrap")
        return Answer(ranked.item_index, ids, ranked.score, ranked.count, retrieved.user_known)

    def _check_tower(self, features: set[str]) -> None:
        if isinstance(self.tower.width, int) and self.tower.width != self.release.manifest["dim"]:
            raise InvalidRelease(
                f"{self.tower.path}: vectors of {self.tower.width} numbers, expected {self.release.manifest['dim']}"
            )
        if set(self.tower.inputs) - features:
            names = ", ".join(sorted(set(self.tower.inputs) - features))
            raise InvalidRelease(
                f"{self.release.path}: the query tower wants {names}, which the transform does not make"
            )
        self.tower.check(self.features.extremes())
