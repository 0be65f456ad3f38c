"""What interactions look like all together: times, duplicates, heavy users, and what the split makes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.checks.findings import EXAMPLES, Finding, Severity, plain
from workflows.columns import Columns
from workflows.config import AnySplit, GivenSplit, LeaveLastOutSplit, RandomSplit, TemporalSplit
from workflows.errors import DataError
from workflows.tables.splits import Parts, part_numbers
from workflows.tables.splits import split as split_rows
from workflows.tables.store import Stored, read_part

Mask = npt.NDArray[np.bool_]

YEAR_1990: Final = 631_152_000
DAY: Final = 86_400
COLD_USERS: Final = 0.3
COLD_ITEMS: Final = 0.2
"""Beyond these shares of the test rows cold users and items are a warning."""
REPEATED: Final = 0.01
TIED: Final = 0.05
HEAVY_TIMES: Final = 50
HEAVY_ROWS: Final = 1000
"""A heavy user has so many interactions, and so many times as many as the median user."""
SINGLE: Final = 0.5


class Events(NamedTuple):
    """All interactions, as positions of their users and items."""

    stored: Stored
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    time: npt.NDArray[np.int64]

    @classmethod
    def of(cls, stored: Stored) -> Events:
        """Read what is needed of the interactions, part by part."""
        users, items = pd.Index(stored.users[Columns.User]), pd.Index(stored.items[Columns.Item])
        parts = []
        for path in stored.parts:
            part = read_part(path, [Columns.User, Columns.Item, Columns.Timestamp])
            codes = users.get_indexer(part[Columns.User]), items.get_indexer(part[Columns.Item])
            parts.append((*(code.astype(np.int32) for code in codes), part[Columns.Timestamp].to_numpy(np.int64)))
        return cls(stored, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        """Return one number for each user and item."""
        return self.user.astype(np.int64) * (int(self.item.max()) + 1) + self.item

    def frame(self) -> pd.DataFrame:
        """Return what a split looks at."""
        return pd.DataFrame({Columns.User: self.user, Columns.Item: self.item, Columns.Timestamp: self.time})

    def user_id(self, user: int) -> Any:
        """Return the id of the user at a position."""
        return plain(self.stored.users[Columns.User].iloc[user])

    def item_id(self, item: int) -> Any:
        """Return the id of the item at a position."""
        return plain(self.stored.items[Columns.Item].iloc[item])

    def finding(self, severity: Severity, check: str, positions: Any, of: int, message: str, remedy: str) -> Finding:
        """Return a finding about the interactions at `positions` [m], with the first of them as examples."""
        examples = [self._example(int(row)) for row in positions[:EXAMPLES]]
        return Finding(severity, check, "interactions", len(positions), of, message, remedy, examples=examples)

    def _example(self, row: int) -> dict[str, Any]:
        user, item, seconds = self.user_id(self.user[row]), self.item_id(self.item[row]), int(self.time[row])
        shown = {"row": row, Columns.User: user, Columns.Item: item, Columns.Timestamp: seconds}
        if seconds:
            shown["time"] = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        return shown


def row_findings(events: Events, split: AnySplit, facts: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is suspicious, and put what the split's parts are into `facts`."""
    yield from _times(events)
    yield from _duplicates(events)
    yield from _heavy_users(events)
    divided = events.frame()
    try:
        if isinstance(split, GivenSplit):
            divided[Columns.Split] = part_numbers(events.stored.parts, split)
        parts = split_rows(divided, split)
    except DataError as error:
        yield Finding.of_error("split", "interactions", error, "choose another split")
        return
    facts.update({name: len(rows) for name, rows in parts._asdict().items()})
    yield from _cold(events, parts, facts)
    yield from _repeated(events, parts, split)
    yield from _ties(events, parts, split)
    yield from _untested(events, parts, split)


def _times(events: Events) -> Iterator[Finding]:
    seconds, rows = events.time, len(events.time)
    if not seconds.any():
        return  # they have none
    unit = "is data.timestamp_unit right?"
    if rows > 1 and seconds.min() == seconds.max():
        everything = np.arange(rows)
        yield events.finding("warning", "time/constant", everything, rows, "all have the same time", unit)
    early = np.flatnonzero(seconds < YEAR_1990)
    if len(early):
        what = "have the time 0" if not seconds[early].any() else "have a time before 1990"
        yield events.finding("warning", "time/early", early, rows, what, unit if len(early) == rows else "correct them")
    late = np.flatnonzero(seconds > time.time() + DAY)
    if len(late):
        yield events.finding("warning", "time/future", late, rows, "have a time in the future", unit)
    if rows > 1 and not (seconds % DAY).any() and seconds.min() != seconds.max():
        message = "are dated by the day: what comes first within one is the order of the rows"
        yield events.finding(
            "note", "time/days", np.arange(rows), rows, message, "bring the time of day, if there is one"
        )


def _duplicates(events: Events) -> Iterator[Finding]:
    if not events.time.any():
        return  # without times nothing tells a second visit from a duplicate
    twice = np.flatnonzero(events.frame().duplicated().to_numpy())
    if len(twice):
        message = "have user, item and time of an earlier row"
        yield events.finding("warning", "duplicate", twice, len(events.time), message, "drop them where they come from")


def _heavy_users(events: Events) -> Iterator[Finding]:
    counts = np.bincount(events.user)
    active = counts[counts > 0]
    limit = max(HEAVY_ROWS, HEAVY_TIMES * float(np.median(active)))
    heavy = np.argsort(-counts, kind="stable")[: int((counts > limit).sum())]
    if len(heavy):
        examples = [{Columns.User: events.user_id(user), "rows": int(counts[user])} for user in heavy[:EXAMPLES]]
        median, rows = np.median(active), int(counts[heavy].sum())
        message = f"come from {len(heavy):,} users with over {limit:,.0f} each (the median user has {median:,.0f})"
        remedy = "are these people? bots, shops and test accounts are better left out"
        yield Finding(
            "warning", "heavy-users", "interactions", rows, len(events.user), message, remedy, Columns.User, examples
        )
    single = int((active == 1).sum())
    if single > SINGLE * len(active):
        remedy = "little can be learned about them; features of users help"
        yield Finding("note", "single-users", "users", single, len(active), "have one interaction", remedy)


def _cold(events: Events, parts: Parts, facts: dict[str, Any]) -> Iterator[Finding]:
    """Test rows of users or items that training knows nothing of."""
    facts["cold"] = {}
    for name, codes, limit in (("users", events.user, COLD_USERS), ("items", events.item, COLD_ITEMS)):
        known = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
        known[codes[parts.train]] = True
        cold = parts.test[~known[codes[parts.test]]]
        facts["cold"][name] = round(len(cold) / len(parts.test), 4)
        if len(cold):
            severity: Severity = "warning" if len(cold) > limit * len(parts.test) else "note"
            message = f"of the test are of {name} without training rows"
            remedy = f"expected of a split by time; features of {name} help, ids do not"
            yield events.finding(severity, f"cold/{name}", cold, len(parts.test), message, remedy)


def _repeated(events: Events, parts: Parts, split: AnySplit) -> Iterator[Finding]:
    """Test rows whose user has that very item in training."""
    pairs = events.pairs
    again = parts.test[np.isin(pairs[parts.test], pairs[parts.train])]
    if len(again) >= REPEATED * len(parts.test):
        severity: Severity = "warning" if isinstance(split, (RandomSplit, GivenSplit)) else "note"
        message = "of the test are of an item that the user has in training, too"
        remedy = "judge by the figures for unseen items, or keep one row for each user and item"
        yield events.finding(severity, "leakage/repeated", again, len(parts.test), message, remedy)


def _ties(events: Events, parts: Parts, split: AnySplit) -> Iterator[Finding]:
    """Test rows that are not later than what was learned from."""
    seconds, of = events.time, len(parts.test)
    if not seconds.any() or seconds.min() == seconds.max():
        return
    if isinstance(split, RandomSplit):
        later = parts.test[seconds[parts.test] < seconds[parts.train].max()]
        message = "of the test are older than the newest training row: the model has seen the future"
        yield events.finding("note", "leakage/future", later, of, message, 'a split by time: kind = "temporal"')
        return
    if isinstance(split, TemporalSplit):
        tied = parts.test[seconds[parts.test] <= max(seconds[parts.train].max(), seconds[parts.valid].max())]
    elif isinstance(split, LeaveLastOutSplit):
        last = np.full(int(events.user.max()) + 1, -1, dtype=np.int64)
        before = np.concatenate([parts.train, parts.valid])
        np.maximum.at(last, events.user[before], seconds[before])
        tied = parts.test[seconds[parts.test] <= last[events.user[parts.test]]]
    else:
        return
    if len(tied) > TIED * of:
        message = "of the test have the same time as rows that are learned from: which came last is chance"
        yield events.finding("warning", "leakage/ties", tied, of, message, "bring finer times, or a random split")


def _untested(events: Events, parts: Parts, split: AnySplit) -> Iterator[Finding]:
    """Items that nothing is learned about, and users that leave-last-out has to pass over."""
    known = np.bincount(events.item[parts.train], minlength=len(events.stored.items)) > 0
    if not known.all():
        unknown = np.flatnonzero(~known)
        message, remedy = "have no training rows; they are found by their features alone", "fine for new items"
        examples = [{Columns.Item: events.item_id(item)} for item in unknown[:EXAMPLES]]
        yield Finding("note", "unseen-items", "items", len(unknown), len(known), message, remedy, examples=examples)
    if isinstance(split, LeaveLastOutSplit):
        counts = np.bincount(events.user)
        few = np.flatnonzero((counts > 0) & (counts < 3))
        if len(few):
            active = int((counts > 0).sum())
            severity: Severity = "warning" if len(few) > SINGLE * active else "note"
            message = "have less than three interactions, so none of theirs is tested"
            remedy = "a random or temporal split tests them"
            examples = [{Columns.User: events.user_id(user)} for user in few[:EXAMPLES]]
            yield Finding(severity, "untested-users", "users", len(few), active, message, remedy, examples=examples)
