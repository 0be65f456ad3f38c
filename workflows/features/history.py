"""The feature `history`: what the query's user did up to the query's time, newest first, never anything later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.columns import Columns
from workflows.config import Sequence as SequenceFeature
from workflows.features.plan import FIRST_ITEM, HISTORY, HISTORY_AGE, FeatureSpec

_BLOCK_ROWS = 8192
_Int64 = npt.NDArray[np.int64]


def spec_of(feature: SequenceFeature, items: int) -> FeatureSpec:
    """Return what a tower needs to know of the history over a catalogue of `items` items."""
    return FeatureSpec(
        name=HISTORY,
        source=HISTORY,
        kind="sequence",
        dtype="int64",
        cardinality=items + FIRST_ITEM,
        max_length=feature.last,
        pad_left=feature.padding == "left",
    )


def sequence_spec(specs: Sequence[FeatureSpec]) -> FeatureSpec | None:
    """Return the spec of the history, or None where the recipe has none."""
    return next((spec for spec in specs if spec.kind == "sequence"), None)


def history_features(spec: FeatureSpec, rows: pd.DataFrame, known: pd.DataFrame, own: bool) -> dict[str, np.ndarray]:
    """Return each row's history: `history` int64 `[n, last]`, `history_age` float32 `[n, last]`.

    A row's history are the `known` interactions of its user with a timestamp not after its own, newest first (of
    equal times the later row of `known` is the newer), the newest `spec.max_length` of them. `history` holds
    `item_index + 3`, and 0 past the end; `history_age` the seconds from the interaction to the row, 0 past the end.
    With `spec.pad_left` each row is turned round.
    Both frames have `user_id`, `item_index` (`rows` need none) and `timestamp`.

    Parameters
    ----------
    own
        `rows` is `known`: each row is left out of its own history.
    """
    if own and len(rows) != len(known):
        raise ValueError(f"own: {len(rows)} rows cannot be the {len(known)} known ones")
    if not own:
        known = known[known[Columns.User].isin(rows[Columns.User])]  # few of many: what is sorted stays small
    timeline = Timeline.of(rows, known, own)
    items = known[Columns.ItemIndex].to_numpy(np.int64)[timeline.order] + FIRST_ITEM
    seconds = known[Columns.Timestamp].to_numpy(np.int64)[timeline.order]
    now = rows[Columns.Timestamp].to_numpy(np.int64)
    codes = np.zeros((len(rows), spec.max_length), dtype=np.int64)
    ages = np.zeros((len(rows), spec.max_length), dtype=np.float32)
    for block, positions, present in timeline.newest(spec.max_length):
        codes[block][present] = items[positions]
        ages[block][present] = np.repeat(now[block], present.sum(axis=1)) - seconds[positions]
    if spec.pad_left:
        codes, ages = np.ascontiguousarray(codes[:, ::-1]), np.ascontiguousarray(ages[:, ::-1])
    return {HISTORY: codes, HISTORY_AGE: ages}


class Timeline(NamedTuple):
    """The known interactions by user, then time, then file order, and where each row's history lies among them."""

    order: _Int64
    start: _Int64
    """[n]: the first interaction of the row's user."""
    end: _Int64
    """[n]: one past the last that is not later than the row."""
    own: _Int64
    """[n]: where the row itself stands; before everything if it is not among the known."""

    @classmethod
    def of(cls, rows: pd.DataFrame, known: pd.DataFrame, own: bool) -> Timeline:
        """Sort `known` and find the rows; see `history_features`."""
        codes, names = pd.factorize(known[Columns.User])
        users = codes if own else pd.Index(names).get_indexer(pd.Index(rows[Columns.User]))
        times, ranks = np.unique(known[Columns.Timestamp].to_numpy(np.int64), return_inverse=True)
        # One number orders (user, time): a user's are the multiples of `width` and what follows each.
        width = len(times) + 1
        keys = codes.astype(np.int64) * width + ranks.reshape(-1)
        order = np.argsort(keys, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        until = times.searchsorted(rows[Columns.Timestamp].to_numpy(np.int64), side="right")
        base = users.astype(np.int64) * width
        start, end = keys[order].searchsorted(base), keys[order].searchsorted(base + until)
        stranger = users < 0
        start[stranger], end[stranger] = 0, 0
        return cls(order, start, end, place if own else np.full(len(rows), -1))

    def newest(self, last: int) -> Iterator[tuple[slice, _Int64, npt.NDArray[np.bool_]]]:
        """Yield blocks of rows: positions of their newest interactions, row after row, and [rows, last] which exist."""
        back = np.arange(1, last + 1)
        for first in range(0, len(self.start), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            positions = self.end[block, None] - back
            positions -= positions <= self.own[block, None]
            present = positions >= self.start[block, None]
            yield block, positions[present], present
