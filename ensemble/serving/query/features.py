"""Query features of a request, from the columns it sent, the user's columns and history, and the transform."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.lookup import IdTable
from ..files.release import Release
from ..search.budget import Budget
from .history import History
from .sequence import FIRST_ITEM, HISTORY, TIME, Clicks, Past, joined
from .transform import Column, QueryTransform
from .users import Users

_MOST_BYTES = 1 << 31


class QueryFeatures:
    """The first step: raw columns to features, given the release's users and their histories."""

    def __init__(self, release: Release, history: History, items: IdTable) -> None:
        """Load the transform and the users; `items` maps item ids of a history to codes."""
        self.transform = QueryTransform.load(release.path / "query")
        self.users = Users(release, self.transform.inputs)
        _check_size(release, self.transform.outputs)
        users, transform = release.manifest["counts"]["users"], self.transform
        self.users.check(users, transform.lasting, transform.outputs, transform.codes)
        self._history, self._items = history, items
        self._late = self.transform.late | {TIME} if self.transform.sequence is not None else self.transform.late

    def extremes(self) -> dict[str, np.ndarray]:
        """Return two rows of features, with the smallest and the largest codes; numbers are 0."""
        codes = {HISTORY: self._items.size + FIRST_ITEM, **self.transform.codes}
        rows = {}
        for feature in self.transform.outputs:
            shape = (2, feature["max_length"]) if feature["list"] else (2,)
            rows[feature["name"]] = np.zeros(shape, dtype=feature["dtype"])
            rows[feature["name"]][1] = codes.get(feature["name"], 1) - 1
        return rows

    def compute(
        self,
        sent: Mapping[str, Column],
        user_rows: np.ndarray,
        clicks: Clicks | None = None,
        budget: Budget | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the query tower's features for raw columns as sent, and rows of the users table, int64 [n].

        Without a time, the query is asked now, or at the row's newest click if that client's clock is ahead. Clicks and
        known interactions after a time that was sent are left out of the history. Raises TooMuch, before they are read,
        if there are longer texts than the `budget` has time for.
        """
        ready = self.users.ready(sent, user_rows)
        if ready is None:
            return self.compute_all(self.users.complete(sent, user_rows), user_rows, clicks, budget)
        columns = self.users.complete(sent, user_rows, self._late)
        self.transform.rest(ready, columns, self._past(columns, user_rows, clicks))
        return ready

    def compute_all(
        self,
        columns: dict[str, Column],
        user_rows: np.ndarray,
        clicks: Clicks | None = None,
        budget: Budget | None = None,
    ) -> dict[str, np.ndarray]:
        """Return what `compute` does, for all raw columns: of a user, the release gives the history alone."""
        past = self._past(columns, user_rows, clicks)
        if budget is not None:
            self.transform.pay(columns, budget)
        return self.transform.compute(columns, past)

    def _past(self, columns: dict[str, Column], user_rows: np.ndarray, clicks: Clicks | None) -> Past | None:
        """Return the history up to the time of each query, which is filled in where it is missing."""
        if TIME in columns and columns[TIME].missing is not None:
            columns[TIME] = Column(_clock(columns[TIME], clicks))
        sequence = self.transform.sequence
        if sequence is None:
            return None
        now, last = columns[TIME].values, sequence.last
        known = self._history.until(user_rows, now, last)
        if clicks is None:
            return known
        return joined(known, clicks, self._items.rows_of(clicks.item_ids) + FIRST_ITEM, now, last)


def _check_size(release: Release, outputs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse features that would take more memory per batch than any machine can spare."""
    row = sum(8 * (int(feature["max_length"]) or 1) for feature in outputs)
    if row * int(release.manifest["serving"]["max_batch_size"]) > _MOST_BYTES:
        raise InvalidRelease(
            f"{release.path / 'query/transform.json'}: {row} bytes of features a row, more than {_MOST_BYTES} for the "
            "largest batch; release it again with a smaller max_batch_size or shorter lists"
        )


def _clock(times: Column, clicks: Clicks | None) -> np.ndarray:
    """Return the times, int64 [n], with missing ones filled in."""
    assert times.missing is not None
    latest = np.full(len(times.values), int(time.time()))
    if clicks is not None:
        np.maximum.at(latest, clicks.rows, clicks.seconds)
    return np.where(times.missing, latest, times.values)
