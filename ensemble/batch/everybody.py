"""Asks a release in this process for many users, batch by batch, through the serving code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np

from ensemble.client.tensors import TIME, ItemId, Query, Signature, tensors
from ensemble.layouts import FUSED
from ensemble.serving.errors import InvalidRequest
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Answer, Retriever
from ensemble.serving.triton.tensors import Request
from workflows.columns import Columns
from workflows.errors import DataError

USERS_AT_ONCE = 1024
"""Rows of one request: enough that the towers and the search work on whole matrices, and a few megabytes."""
Time = Union[int, Literal["last"]]


@dataclass(frozen=True)
class Asking:
    """The question that every user is asked."""

    top_k: int | None = None
    """None: the release's own number."""
    exclude: Sequence[ItemId] = ()
    include_seen: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Query columns with one value for all users, in place of what the release knows of them."""
    filter: str = ""
    """A filter as JSON (docs/serving.md)."""
    time: Time = "last"
    """Seconds since 1970, at which everybody is asked. `last`: each user at the time of their newest interaction."""


class Everybody:
    """A loaded release that answers many of its users."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever, release = retriever, retriever.release
        self.signature = Signature(
            model=FUSED,
            max_batch_size=USERS_AT_ONCE,
            inputs={column.name: column.dtype for column in retriever.inputs},
            default_top_k=retriever.serving["top_k"],
            max_top_k=retriever.serving["max_top_k"],
        )
        self._offsets = release.array("history/offsets.npy", np.int64)
        self._seconds = release.array("history/timestamp.npy", np.int64)

    @classmethod
    def load(cls, release: Path, delta: Path | None = None) -> Everybody:
        """Verify and load a release and its deltas in `delta`; raise InvalidRelease if they are damaged."""
        return cls(Retriever.load(release, delta))

    @property
    def dated(self) -> bool:
        """Return whether answers depend on the time of the question."""
        return TIME in self.signature.inputs

    def user_ids(self) -> np.ndarray:
        """Return the users that the release knows, in its order, int64 or `str` objects [users]."""
        return known_users(self.retriever.release)

    def answer(self, user_ids: np.ndarray, asking: Asking) -> Answer:
        """Return the best items of the users; raise as `requests`, or DataError for a query without a finite vector."""
        with _naming(user_ids):
            return self.retriever.answer(self._request(user_ids, asking))

    def vectors(self, user_ids: np.ndarray, asking: Asking) -> np.ndarray:
        """Return the users' query vectors, float32 [n, d]; raise as `answer`."""
        with _naming(user_ids):
            request, rows = self._request(user_ids, asking), self.retriever.users.rows_of(user_ids)
            return self.retriever.tower.encode(self.retriever.features.compute(request.columns, rows))

    def _request(self, user_ids: np.ndarray, asking: Asking) -> Request:
        rows = len(user_ids)
        query = Query(
            user_ids,
            asking.top_k,
            [asking.exclude] * rows if asking.exclude else None,
            asking.include_seen,
            {name: [value] * rows for name, value in asking.columns.items()},
            self._times(user_ids, asking.time) if self.dated else None,
            filters=[asking.filter] * rows if asking.filter else None,
        )
        return self.retriever.reader.read([tensors(self.signature, query)])

    def _times(self, user_ids: np.ndarray, asked: Time) -> np.ndarray:
        """Return the time of each user's question, int64 [n]; the release's newest interaction if one has none."""
        if asked != "last":
            return np.full(len(user_ids), asked, dtype=np.int64)
        newest = int(self._seconds.max()) if len(self._seconds) else int(time.time())
        rows = self.retriever.users.rows_of(user_ids)
        end = np.where(rows >= 0, self._offsets[rows + 1], 0)
        has = (rows >= 0) & (end > np.where(rows >= 0, self._offsets[rows], 0))
        return np.where(has, self._seconds[end - 1] if len(self._seconds) else newest, newest)


def known_users(release: Release) -> np.ndarray:
    """Return the ids of the users that a release knows, in its order, int64 or `str` objects [users]."""
    return read_values(release, f"users/{Columns.User}", release.manifest["id_dtype"][Columns.User])


def batches(ids: np.ndarray, rows: int = USERS_AT_ONCE) -> Iterator[np.ndarray]:
    """Yield the ids in order, `rows` at a time."""
    for start in range(0, len(ids), rows):
        yield ids[start : start + rows]


@contextmanager
def _naming(user_ids: np.ndarray) -> Iterator[None]:
    """Add the user ids to the error of a wrong request."""
    try:
        yield
    except InvalidRequest as error:
        raise DataError(f"users from {user_ids[0]} to {user_ids[-1]}: {error}") from None
