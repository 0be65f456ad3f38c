"""What the pages know of a run: its release, loaded once, and loaded again when another one is in its place."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ensemble.batch.everybody import Everybody
from ensemble.serving.files.parameters import read_json
from ensemble.serving.files.release import MANIFEST
from ensemble.serving.query.sequence import TIME
from retrieval.explore.loaded.exposure import Exposure
from retrieval.explore.loaded.items import Items, cell
from retrieval.explore.loaded.measured import Measured
from retrieval.explore.loaded.peers import Peers
from retrieval.explore.views.map import ItemMap
from retrieval.runs.places import release_of
from workflows.columns import Columns
from workflows.errors import StageError

_TEST = (Columns.User, Columns.Item, Columns.ItemIndex, Columns.Timestamp)
FAR = 2**62
"""A time after all others."""


class Past(NamedTuple):
    """A user's interactions, oldest first."""

    items: np.ndarray
    """int64 [n]: rows of the catalogue."""
    seconds: np.ndarray
    """int64 [n]."""


class Explored:
    """A loaded release, its users, items and histories, and the run's test rows where there are any."""

    def __init__(self, place: Path) -> None:
        """Load the release of a run, or a release; raise InvalidRelease where it is missing or damaged."""
        self.place, self.everybody = place, Everybody.load(release_of(place))
        self.name = place.resolve().name
        self.retriever = self.everybody.retriever
        release = self.retriever.release
        self.signature, self.user_ids = self.everybody.signature, self.everybody.user_ids()
        self.offsets = np.array(release.array("history/offsets.npy", np.int64))
        """Where each user's interactions begin, int64 [users + 1]."""
        self.history_items = release.array("history/item_index.npy", np.int32)
        self.history_seconds = release.array("history/timestamp.npy", np.int64)
        self.items, self.lock = Items(self.retriever), Lock()

    @cached_property
    def peers(self) -> Peers:
        """Return the simple models; fitted when they are first asked."""
        return Peers(self)

    @cached_property
    def exposure(self) -> Exposure:
        """Return who is answered with what; asked for when it is first looked at."""
        return Exposure(self)

    @cached_property
    def measured(self) -> Measured:
        """Return where the items of the test rows are ranked; found when it is first looked at."""
        return Measured(self)

    @cached_property
    def map(self) -> ItemMap:
        """Return the items' vectors in the plane."""
        return ItemMap(self)

    def finish(self) -> None:
        """Wait until all that is found in the background is there."""
        self.measured.wait()
        self.exposure.wait()
        self.peers.wait()

    @property
    def dated(self) -> bool:
        """Return whether an answer depends on when it is asked."""
        return TIME in self.signature.inputs

    @cached_property
    def timed(self) -> bool:
        """Return whether the interactions have times; without them all are at 0."""
        return bool(self.history_seconds.any())

    @property
    def takes_history(self) -> bool:
        """Return whether a request may carry interactions."""
        return "history_item_ids" in self.signature.inputs

    def user_row(self, user: Any) -> int:
        """Return the user's row; -1 where the release has no such user."""
        ids = np.array([user], dtype=self.user_ids.dtype)
        return int(self.retriever.users.rows_of(ids)[0])

    def past(self, row: int, until: int = FAR) -> Past:
        """Return what the user of a row did, up to a time."""
        start, end = (int(self.offsets[row]), int(self.offsets[row + 1])) if row >= 0 else (0, 0)
        seconds = np.asarray(self.history_seconds[start:end])
        count = int(np.searchsorted(seconds, until, side="right"))
        return Past(np.asarray(self.history_items[start : start + count], np.int64), seconds[:count])

    def counts(self) -> np.ndarray:
        """Return how many interactions every user has, int64 [users]."""
        return np.diff(self.offsets)

    def attributes(self, row: int) -> dict[str, Any]:
        """Return what the release knows of the user of a row, by column."""
        columns = self.retriever.users.complete({}, np.array([row]))
        return {name: cell(column, 0) for name, column in columns.items() if name not in (Columns.User, TIME)}

    @cached_property
    def all_attributes(self) -> dict[str, list[Any]]:
        """Return what the release knows of all users, by column."""
        rows = np.arange(len(self.user_ids))
        columns = self.retriever.users.complete({}, rows)
        names = [name for name in columns if name not in (Columns.User, TIME)]
        return {name: [cell(columns[name], row) for row in rows.tolist()] for name in names}

    @cached_property
    def test(self) -> dict[str, np.ndarray]:
        """Return the columns of the test rows, which training never saw; none of a release without its run. Raise
        StageError where they cannot be read."""
        from workflows.features.files import read_raw

        part = self.place / "features" / "test"
        try:
            return read_raw(part, _TEST) if part.is_dir() else dict.fromkeys(_TEST, np.zeros(0, object))
        except (OSError, ValueError) as error:
            raise StageError(f"{part}: {error}; run `retrieval features`") from None

    def _test_of(self, user: Any, column: str) -> np.ndarray:
        return self.test[column][self.test[Columns.User] == user]

    def in_test(self, user: Any) -> set[Any]:
        """Return the ids of the items in the user's test rows."""
        return set(self._test_of(user, Columns.Item).tolist())

    def middle_of_test(self, user: Any) -> int:
        """Return the time of the middle one of the user's test rows: as many lie before as after."""
        seconds = np.sort(self._test_of(user, Columns.Timestamp))
        return int(seconds[(len(seconds) - 1) // 2])

    @cached_property
    def example_users(self) -> list[Any]:
        """Return some users to begin with: those of the test rows with the longest histories among them."""
        known = np.array(list(dict.fromkeys(self.test[Columns.User].tolist())), self.user_ids.dtype)
        rows = self.retriever.users.rows_of(known) if len(known) else np.zeros(0, int)
        rows = rows[rows >= 0] if (rows >= 0).any() else np.arange(len(self.user_ids))
        middle = rows[np.argsort(-self.counts()[rows], kind="stable")]
        return self.user_ids[middle[np.linspace(0, len(middle) - 1, min(12, len(middle))).astype(int)]].tolist()

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Return what the run measured; nothing where it did not."""
        path = self.place / "metrics.json"
        return dict(read_json(path)) if path.is_file() else {}


class Shelf:
    """The runs that are shown, each loaded when it is first asked for and again when its release changes."""

    def __init__(self, places: list[Path]) -> None:
        self.places = places
        self._loaded: dict[int, tuple[int, Explored]] = {}
        self._lock = Lock()

    def __getitem__(self, number: int) -> Explored:
        """Return a run by its number; raise InvalidRelease where its release is missing or damaged."""
        manifest = release_of(self.places[number]) / MANIFEST
        with self._lock:
            changed = manifest.stat().st_mtime_ns if manifest.is_file() else -1
            if number not in self._loaded or self._loaded[number][0] != changed:
                self._loaded.pop(number, None)
                self._loaded[number] = changed, Explored(self.places[number])
            return self._loaded[number][1]
