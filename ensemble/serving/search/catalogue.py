"""The live items as an immutable snapshot; a delta makes the next one.

Rows never move. The first `trained` rows are the items that the towers were trained with, whose codes the histories
hold; later items follow. An updated item gets a new row and its old row dies; a removed item leaves a dead row behind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidRelease
from ..files.arrays import read_values, trained_ids
from ..files.lookup import IdTable
from ..files.release import Release
from ..index.engine import PARAMETERS
from ..index.engines import load_index
from .attributes import Attributes, extended, read_attributes
from .delta import Delta
from .filters import Filters
from .scoring import read_vectors
from .search import ItemSearch

REMOVED = "items/removed.npy"
"""Rows that are dead, int64 [m] ascending; a release without such items has no such file."""


class Rows(NamedTuple):
    """The content of each row of a catalogue."""

    ids: np.ndarray
    """int64 or `str` objects [rows]; of equal ids the last row counts."""
    wire_ids: np.ndarray
    """The same as they are sent: int64 or UTF-8 `bytes` objects [rows]."""
    vectors: np.ndarray
    """float32 [rows, d]."""
    live: np.ndarray
    """bool [rows]."""
    attributes: Attributes


class Catalogue:
    """Items, the search over them, and the row of each id."""

    def __init__(
        self, rows: Rows, trained_ids: IdTable, search: ItemSearch, room: GrowingRows, chain: str | None = None
    ) -> None:
        """See `load`; `room` holds the vectors and can grow, `chain` is the id of the first delta."""
        self.rows, self.trained_ids, self.search = rows, trained_ids, search
        self.trained = trained_ids.size
        self._room, self._chain = room, chain
        is_string = rows.ids.dtype == object
        self.item_ids = np.append(rows.ids, np.array(["" if is_string else 0], dtype=rows.ids.dtype))
        """The id of every row, and one more: row -1 is no item."""
        self.wire_ids = np.append(rows.wire_ids, np.array([b""], dtype=object)) if is_string else self.item_ids
        """The same as they are sent."""
        self.ids = trained_ids if self.trained == len(rows.ids) else NewestIds(rows.ids, trained_ids)
        """Each id's newest row, though it may be dead."""
        self.filters = Filters(rows.attributes, self.ids, search.mask, len(rows.ids))
        self._moved = self.ids.moved() if isinstance(self.ids, NewestIds) else None

    @classmethod
    def load(cls, release: Release) -> Catalogue:
        """Load the items of a verified release; raise InvalidRelease if its parts do not fit each other."""
        ids = read_values(release, "items/ids", release.manifest["id_dtype"]["item_id"])
        vectors = read_vectors(release, len(ids), release.manifest["dim"])
        rows = Rows(ids, on_wire(ids), vectors, _live(release, ids), read_attributes(release, len(ids)))
        metric = release.json(PARAMETERS)["metric"]
        search = ItemSearch(vectors, load_index(release), metric=metric, live=rows.live)
        return cls(rows, trained_ids(release), search, GrowingRows(vectors))

    def current(self, trained_rows: np.ndarray) -> np.ndarray:
        """Return the current rows of items, int64 [n], given their rows when the towers were trained."""
        return trained_rows if self._moved is None else self._moved[trained_rows]

    def with_delta(self, delta: Delta) -> Catalogue:
        """Return the next snapshot, without changing this one; raise InvalidRelease if the delta does not fit."""
        ids, live = delta.ids("string" if self.ids.is_string else "int64"), self.rows.live.copy()
        known = self.ids.rows_of(ids)
        live[known[known >= 0]] = False
        chain = self._chain or str(delta.manifest["package"])
        if delta.removes:
            return self._next(self.rows._replace(live=live), chain)
        vectors = self._room.extended(len(live), read_vectors(delta, len(ids), self.rows.vectors.shape[1]))
        attributes = extended(self.rows.attributes, read_attributes(delta, len(ids)))
        all_ids, wire_ids = np.append(self.rows.ids, ids), np.append(self.rows.wire_ids, on_wire(ids))
        live = np.append(live, np.ones(len(ids), dtype=bool))
        return self._next(Rows(all_ids, wire_ids, vectors, live, attributes), chain)

    def _next(self, rows: Rows, chain: str) -> Catalogue:
        search = self.search.extended(rows.vectors, rows.live, chain)
        return Catalogue(rows, self.trained_ids, search, self._room, chain)


class NewestIds(IdTable):
    """Ids and the newest row of each, for a table in which an id may have several rows."""

    def __init__(self, ids: np.ndarray, trained: IdTable) -> None:
        """Take the id of every row; the first ones are those of `trained`."""
        newest = dict(zip(ids[trained.size :].tolist(), range(trained.size, len(ids)), strict=True))
        changed = np.fromiter(newest, dtype=ids.dtype, count=len(newest))
        super().__init__(changed)
        self._trained = trained
        self._newest = np.fromiter(newest.values(), dtype=np.int64, count=len(newest))
        self._old = trained.rows_of(changed)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Return each id's newest row, int64 [n]; -1 for an unknown id."""
        place = super().rows_of(ids)
        return np.where(place >= 0, self._newest[place], self._trained.rows_of(ids))

    def moved(self) -> np.ndarray | None:
        """Return the newest row of every trained item, int64 [trained]; None if none has moved."""
        known = self._old >= 0
        if not known.any():
            return None
        moved = np.arange(self._trained.size)
        moved[self._old[known]] = self._newest[known]
        return moved


class GrowingRows:
    """float32 rows with spare room: a longer version shares the memory of a shorter one."""

    def __init__(self, rows: np.ndarray) -> None:
        """Take the first rows, float32 [n, d]; they are copied when others are appended."""
        self._buffer, self._used = rows, len(rows)

    def extended(self, size: int, more: np.ndarray) -> np.ndarray:
        """Return the first `size` rows followed by `more`; earlier results are not changed."""
        total = size + len(more)
        if size != self._used or total > len(self._buffer):
            buffer = np.empty((total + max(1024, total // 16), more.shape[1]), dtype=np.float32)
            buffer[:size] = self._buffer[:size]
            self._buffer = buffer
        self._buffer[size:total] = more
        self._used = total
        return self._buffer[:total]


def on_wire(ids: np.ndarray) -> np.ndarray:
    """Return ids as they are sent: int64 unchanged, strings as UTF-8 `bytes`."""
    if ids.dtype != object:
        return ids
    return np.array([item_id.encode() for item_id in ids], dtype=object)


def _live(release: Release, ids: np.ndarray) -> np.ndarray:
    """Return the live rows, bool [rows]: as many as the manifest counts, and at most the last row of each id."""
    live = np.ones(len(ids), dtype=bool)
    if release.has(REMOVED):
        removed = release.array(REMOVED, np.int64)
        if not ((removed >= 0) & (removed < len(ids))).all() or (np.diff(removed) <= 0).any():
            raise InvalidRelease(f"{release.path / REMOVED}: expected rows of the {len(ids)} items, int64, ascending")
        live[removed] = False
    if (counted := release.manifest["counts"]["items"]) != np.count_nonzero(live):
        raise InvalidRelease(f"{release.path}/manifest.json, counts, items is {counted}, {live.sum()} live")
    if "derived_from" in release.manifest:
        newest, rows = dict(zip(ids.tolist(), range(len(ids)), strict=True)), live.nonzero()[0]
        if [newest[item_id] for item_id in ids[rows].tolist()] != rows.tolist():
            raise InvalidRelease(f"{release.path}/items/ids.npy: an item's older row is marked as living, too")
    return live
