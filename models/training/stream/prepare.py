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

from models.config import Rating, Threshold, Weighted
from models.training.losses.ratings import positives, weights
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
AT_ONCE: Final = 1 << 20
"""Rows that are sorted at once, about."""
_COLUMNS: Final = (Columns.User, Columns.ItemIndex, Columns.Timestamp, Columns.Rating)
Records = npt.NDArray[Any]


class Source(NamedTuple):
    """Rows to be trained on: all those of some parts of the split; and what is made of their ratings."""

    data: FeatureSet
    parts: Sequence[str]
    rows: int
    rating: Rating


def prepare(source: Source, seed: int, out: Path, progress: Progress, at_once: int = AT_ONCE) -> None:
    """Write ROWS, TYPES, COUNTS and HISTORIES to `out`, which must exist.

    Rows that are no positives (`Threshold`) are among the interactions of HISTORIES alone.

    Raises
    ------
    StageError
        A row is of a user who is not in the table of users.
    RecipeError
        The ratings do not allow what the recipe does with them.
    """
    piles, random = max(1, -(-source.rows // at_once)), np.random.default_rng(seed)
    by_user, shuffled = Piles(out / "by_user", piles), Piles(out / "shuffled", piles)
    report, done = regularly(progress, "shuffling the training rows: {:,} of {:,}", 3 * source.rows), 0
    ratings = _Ratings(source.rating)
    for records in _records(source):
        by_user.deal(records, records["user"] % piles)
        ratings.look(records["weight"])
        done += len(records)
        report(done)
    ratings.check()
    last, first = _history_length(source.data.query_specs), 0
    for records in by_user.take():
        learned = _with_histories(records, last, first, out / HISTORIES)
        learned = learned[ratings.positives(learned["weight"])]
        shuffled.deal(learned, random.integers(0, piles, len(learned)))
        ratings.learned(learned["weight"])
        first += len(records)
        report(done + first)
    counts = np.zeros(len(source.data.catalogue), np.int64)
    for records in shuffled.take():
        records["weight"] = ratings.weights(records["weight"])
        counts += np.bincount(records["item"], minlength=len(counts))
        _append(records[random.permutation(len(records))], out / ROWS)
        report(done + first + int(counts.sum()))
    np.save(out / TYPES, np.zeros(0, records.dtype))
    np.save(out / COUNTS, counts)


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


def record_type(query: dict[str, np.ndarray], specs: Sequence[FeatureSpec], rows: int) -> np.dtype[Any]:
    """Return the type of a row: its features, in the narrowest types that hold their codes, and what else is known.

    `user` is the user's place in the table of users; `weight` the rating until all are known, then the weight of the
    row's loss. The history is before `end` in HISTORIES, from `start` on, without the row's own interaction, `own`,
    which is the row's place in the split until the interactions are sorted.
    """
    codes, place = {spec.name: spec.cardinality for spec in specs}, np.min_scalar_type(rows)
    features = [
        (name, np.min_scalar_type(codes[name]) if codes.get(name) and of.dtype == np.int64 else of.dtype, of.shape[1:])
        for name, of in query.items()
    ]
    places = [("start", place), ("end", place), ("own", place)]
    return np.dtype(
        [("query", features), ("item", "<i4"), ("user", "<i4"), ("time", "<i8"), ("weight", "<f4"), *places]
    )


def _records(source: Source) -> Iterator[Records]:
    """Yield the rows of all parts, with their places in the split."""
    assert source.data.stored is not None
    users, first = shared_index(source.data.users[Columns.User]), 0
    for part in source.parts:
        rows = 0
        for piece in read_pieces(source.data.stored / part, _COLUMNS, query=True):
            records = np.zeros(len(piece.rows), record_type(piece.query, source.data.query_specs, source.rows))
            _fill(records, piece, users)
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
    records["weight"], records["own"] = piece.rows[Columns.Rating], piece.rows.index


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


class _Ratings:
    """What the ratings of all rows make of each, seen some at a time."""

    def __init__(self, rating: Rating) -> None:
        self._rating, self._range = rating, (np.inf, -np.inf)
        self._sum, self._rows = 0.0, 0

    def look(self, ratings: npt.NDArray[np.float32]) -> None:
        """See ratings of some rows."""
        low, high = self._range
        self._range = ratings.min(initial=low), ratings.max(initial=high)

    def check(self) -> None:
        """Raise RecipeError where those of all rows do not allow what the recipe does with them."""
        extremes = pd.DataFrame({Columns.Rating: np.array(self._range, np.float32)})
        positives(extremes, self._rating)
        weights(extremes, self._rating)

    def positives(self, ratings: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return which rows are learned from."""
        if isinstance(self._rating, Threshold):
            return ratings >= self._rating.positive_from
        return np.ones(len(ratings), bool)

    def learned(self, ratings: npt.NDArray[np.float32]) -> None:
        """See the ratings of rows that are learned from."""
        self._sum += float(ratings.sum(dtype=np.float64))
        self._rows += len(ratings)

    def weights(self, ratings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what the losses of rows are multiplied by, 1 on average over all."""
        if isinstance(self._rating, Weighted):
            return ratings / np.float32(self._sum / self._rows)
        return np.ones(len(ratings), np.float32)
