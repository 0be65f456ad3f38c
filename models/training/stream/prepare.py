"""Training rows as files: all rows in an order drawn by a seed, and the interactions of every user by time.

Neither sort has all rows in memory: rows are dealt into files, each small enough to be sorted on its own, by the user
for the index of interactions, at random for the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.config import Train
from models.metrics import SeenItems
from models.training.losses.tasks import task_labels
from models.training.row_weights import RowWeights
from models.training.weights.warm_start import Start
from workflows.columns import Columns
from workflows.errors import StageError
from workflows.features.files import Piece, read_pieces
from workflows.features.history import sequence_spec
from workflows.features.plan import FIRST_ITEM, FeatureSpec
from workflows.features.stage import FeatureSet
from workflows.progress import Progress, regularly
from workflows.tables.store import shared_index

ROWS: Final = "rows.bin"
"""Records of the type of TYPES, shuffled."""
TYPES: Final = "types.npy"
"""An array of no records, see `record_type`."""
COUNTS: Final = "counts.npy"
"""How many rows an item has, int64 `[items]`."""
HISTORIES: Final = "histories.bin"
"""Interactions, of the type INTERACTION, by user, then time, then the order of the split."""
INTERACTION: Final = np.dtype([("code", "<i4"), ("time", "<i8")])
SCALE: Final = "scale.npy"
"""The `Scale` of the ratings."""
OWNED: Final = ("owned.bin", "owned_from.npy")
"""What every user has, see `SeenItems`: items, int32, by user, and offsets; where the objective asks for it."""
AT_ONCE: Final = 1 << 20
"""Rows that are sorted at once, about."""
_COLUMNS: Final = (Columns.User, Columns.ItemIndex, Columns.Timestamp, Columns.Rating, Columns.Event)
Records = npt.NDArray[Any]


class Source(NamedTuple):
    """Rows to be trained on: all those of some parts of the split, or those that are new to a warm start."""

    data: FeatureSet
    parts: Sequence[str]
    rows: int
    train: Train
    start: Start | None = None


def prepare(source: Source, seed: int, out: Path, progress: Progress, at_once: int = AT_ONCE) -> None:
    """Write ROWS, TYPES, COUNTS, SCALE and HISTORIES to `out`, which must exist, and OWNED where it is asked for.

    Rows that are not learned from are among the interactions of HISTORIES and OWNED alone.

    Raises
    ------
    StageError
        A row is of a user who is not in the table of users.
    RecipeError
        The ratings or events do not allow what the recipe does with them, or no row is new.
    """
    piles, random = max(1, -(-source.rows // at_once)), np.random.default_rng(seed)
    by_user, shuffled = Piles(out / "by_user", piles), Piles(out / "shuffled", piles)
    report, done = regularly(progress, "shuffling the training rows: {:,} of {:,}", 3 * source.rows), 0
    weights, had = RowWeights(source.train, source.start), np.zeros(len(source.data.users), np.int64)
    for records in _records(source, weights):
        by_user.deal(records, records["user"] % piles)
        had += np.bincount(records["user"], minlength=len(had))
        done += len(records)
        report(done)
    weights.check()
    owned = _Owned(had, out) if source.train.asks_who_has_what else None
    last, first = _history_length(source.data.query_specs), 0
    for records in by_user.take():
        placed = _with_histories(records, last, first, out / HISTORIES)
        if owned:
            owned.add(records)
        learned = placed[placed["weight"] >= 0]
        shuffled.deal(learned, random.integers(0, piles, len(learned)))
        first += len(records)
        report(done + first)
    counts = np.zeros(len(source.data.catalogue), np.int64)
    for records in shuffled.take():
        records["weight"] /= weights.mean
        counts += np.bincount(records["item"], minlength=len(counts))
        _append(records[random.permutation(len(records))], out / ROWS)
        report(done + first + int(counts.sum()))
    np.save(out / TYPES, np.zeros(0, records.dtype))
    np.save(out / COUNTS, counts)
    np.save(out / SCALE, weights.scale)


def owned_items(directory: Path) -> SeenItems:
    """Return what every user has, of rows that were prepared with OWNED."""
    items, offsets = (directory / name for name in OWNED)
    return SeenItems(np.load(offsets), np.fromfile(items, np.int32))


class Piles:
    """Records dealt into files, to be taken from there one file after the other."""

    def __init__(self, directory: Path, count: int) -> None:
        self._files = [directory / str(number) for number in range(count)]
        self._type = np.dtype([])
        directory.mkdir()

    def deal(self, records: Records, piles: npt.NDArray[np.integer[Any]]) -> None:
        """Append each record to the pile of its number."""
        self._type, order = records.dtype, np.argsort(piles, kind="stable")
        bounds = np.searchsorted(piles[order], np.arange(len(self._files) + 1))
        for number, file in enumerate(self._files):
            _append(records[order[bounds[number] : bounds[number + 1]]], file)

    def take(self) -> Iterator[Records]:
        """Yield the piles, each removed when the next is asked for."""
        for file in self._files:
            yield np.fromfile(file, self._type)
            file.unlink()
        self._files[0].parent.rmdir()


def _append(records: Records, path: Path) -> None:
    with path.open("ab") as file:
        records.tofile(file)


def record_type(query: dict[str, np.ndarray], specs: Sequence[FeatureSpec], rows: int, train: Train) -> np.dtype[Any]:
    """Return the type of a row: its features, in the narrowest types that hold their codes, and what else is known.

    `user` is the user's place in the table of users; `weight` what the row's loss is multiplied by, see `RowWeights`;
    `events` and `ratings` are those of `Labels`, where there are tasks. The history is before `end` in HISTORIES, from
    `start` on, without the row's own interaction, `own`, which is the row's place in the split until the interactions
    are sorted.
    """
    codes, place = {spec.name: spec.cardinality for spec in specs}, np.min_scalar_type(rows)
    features = [
        (name, np.min_scalar_type(codes[name]) if codes.get(name) and of.dtype == np.int64 else of.dtype, of.shape[1:])
        for name, of in query.items()
    ]
    tasks = train.tasks
    known = [("events", "u1")] * bool(tasks and tasks.events) + [("ratings", "<f4")] * bool(tasks and tasks.rating)
    places = [("start", place), ("end", place), ("own", place)]
    return np.dtype(
        [("query", features), ("item", "<i4"), ("user", "<i4"), ("time", "<i8"), ("weight", "<f4"), *known, *places]
    )


def _records(source: Source, weights: RowWeights) -> Iterator[Records]:
    """Yield the rows of all parts, with their places in the split."""
    assert source.data.stored is not None
    users, first = shared_index(source.data.users[Columns.User]), 0
    for part in source.parts:
        rows = 0
        for piece in read_pieces(source.data.stored / part, _COLUMNS, query=True):
            kind = record_type(piece.query, source.data.query_specs, source.rows, source.train)
            records = np.zeros(len(piece.rows), kind)
            _fill(records, piece, users)
            records["weight"] = weights.of(piece.rows)
            for name, values in task_labels(piece.rows, source.train.tasks).items():
                records[name] = values
            records["own"] += first
            rows += len(records)
            yield records
        first += rows


def _fill(records: Records, piece: Piece, users: pd.Index) -> None:
    for name, values in piece.query.items():
        records["query"][name] = values
    records["user"] = users.get_indexer(pd.Index(piece.rows[Columns.User]))
    if (records["user"] < 0).any():
        stranger = piece.rows[Columns.User].iloc[int((records["user"] < 0).argmax())]
        raise StageError(
            f"features: user {stranger!r} of a training row is not in users.parquet; run `retrieval fetch`"
        )
    records["item"], records["time"] = piece.rows[Columns.ItemIndex], piece.rows[Columns.Timestamp]
    records["own"] = piece.rows.index


def _history_length(specs: Sequence[FeatureSpec]) -> int:
    spec = sequence_spec(specs)
    return spec.max_length if spec else 0


def _with_histories(records: Records, last: int, first: int, path: Path) -> Records:
    """Append all interactions of some users to HISTORIES, which has `first` so far, and tell each where its own are.

    Of a user's interactions the `last` before a row, and one more, are kept as its range; `last` of 0: there is no
    history.
    """
    if not last:
        return records
    records = records[np.lexsort((records["own"], records["time"], records["user"]))]
    new_user = np.diff(records["user"], prepend=-1) != 0
    start = np.maximum.accumulate(np.where(new_user, np.arange(len(records)), 0))
    last_of_time = np.append(new_user[1:] | (np.diff(records["time"]) != 0), True)[: len(records)]
    ends = np.flatnonzero(last_of_time) + 1
    end = ends[np.searchsorted(ends, np.arange(len(records)), side="right")]
    records["start"], records["end"] = first + np.maximum(start, end - last - 1), first + end
    records["own"] = first + np.arange(len(records))
    interactions = np.empty(len(records), INTERACTION)
    interactions["code"], interactions["time"] = records["item"] + FIRST_ITEM, records["time"]
    _append(interactions, path)
    return records


class _Owned:
    """Writes OWNED, the items of some users at a time."""

    def __init__(self, had: npt.NDArray[np.int64], out: Path) -> None:
        items, offsets = (out / name for name in OWNED)
        self._from = np.concatenate([[0], np.cumsum(had)])
        np.save(offsets, self._from)
        self._items = np.memmap(items, np.int32, "w+", shape=(int(self._from[-1]),))

    def add(self, records: Records) -> None:
        """Write all that some users have."""
        order = np.argsort(records["user"], kind="stable")
        users = records["user"][order]
        within = np.arange(len(users)) - np.searchsorted(users, users)
        self._items[self._from[users] + within] = records["item"][order]
