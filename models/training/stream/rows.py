"""Batches of the rows that `prepare` wrote, read some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from models.towers.heads import Scale
from models.training.horovod import Ranks
from models.training.losses.objective import Labels
from models.training.losses.sampling import ItemCounts
from models.training.stream.prepare import COUNTS, HISTORIES, INTERACTION, ROWS, SCALE, TYPES, Records, owned_items
from workflows.features.plan import HISTORY, HISTORY_AGE, FeatureSpec

BLOCK: Final = 1 << 12
"""Rows that are read together: other blocks are beside them in every epoch."""
POOL_BYTES: Final = 1 << 26
"""Of rows, with their histories, that are shuffled together: those of many blocks."""
_LIKE_ALL: Final = 1 << 13
"""Rows that tell what the numbers of all are like."""
_CUT: Final = 1 << 13
_SPAN: Final = 1 << 17
"""Histories are cut for at most so many rows at a time, which begin among so many interactions."""
Features = dict[str, np.ndarray]


class StreamedRows:
    """Rows in a file, in an order that was drawn before.

    An epoch reads blocks of rows in another order, some dozens at a time, which it shuffles. A rank has a share of the
    file for its own.
    """

    def __init__(self, directory: Path, spec: FeatureSpec | None) -> None:
        self._directory, self._spec = directory, spec
        self._type: np.dtype[Any] = np.load(directory / TYPES).dtype
        self.counts = ItemCounts(np.load(directory / COUNTS), lambda: owned_items(directory))
        self.scale = Scale(*np.load(directory / SCALE).tolist())
        width = 0 if spec is None else spec.max_length
        self._pool = max(BLOCK, POOL_BYTES // (self._type.itemsize + 8 * width))

    def __len__(self) -> int:
        """Return how many there are."""
        return self.counts.total

    def first(self, most: int) -> dict[str, tf.Tensor]:
        """Return the features of the first rows, at most so many."""
        inputs = self._features(self._read(0, min(most, len(self))))
        return {name: tf.constant(_as_trained(values)) for name, values in inputs.items()}

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """Return the query features of the first rows that are numbers."""
        return {name: of.numpy() for name, of in self.first(_LIKE_ALL).items() if of.dtype.is_floating}

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and the items of all rows, int32 `[rows]` each."""
        users, items = np.zeros((2, len(self)), np.int32)
        for first in range(0, len(self), _SPAN):
            records = self._read(first, _SPAN)
            users[first : first + _SPAN], items[first : first + _SPAN] = records["user"], records["item"]
        return users, items

    def batches(self, batch_size: int, seed: int, ranks: Ranks) -> tf.data.Dataset:
        """Yield `(query features, Labels)`: all rows in another order every epoch, drawn by the seed; the short last
        batch is left out."""
        share = len(self) // ranks.size
        size, epochs = min(batch_size // ranks.size, share), count()

        def epoch() -> Iterator[tuple[Features, Features]]:
            yield from self._epoch(ranks.rank * share, share, size, np.random.default_rng([seed, next(epochs)]))

        example = next(self._epoch(0, min(size, share), size, np.random.default_rng(0)))
        signature = tf.nest.map_structure(lambda values: tf.TensorSpec(values.shape, values.dtype), example)
        batches = tf.data.Dataset.from_generator(epoch, output_signature=signature)
        batches = batches.apply(tf.data.experimental.assert_cardinality(share // size))
        return batches.map(lambda features, of: (features, Labels(**of))).prefetch(2)

    def _epoch(
        self, first: int, rows: int, size: int, random: np.random.Generator
    ) -> Iterator[tuple[Features, Features]]:
        """Yield batches of `size` of the `rows` from `first` on."""
        remainder = np.zeros(0, self._type)
        for pool in self._pools(first, rows, random):
            pool = np.concatenate([remainder, pool])
            pool = pool[random.permutation(len(pool))]
            whole = len(pool) - len(pool) % size
            pool, remainder = pool[:whole], pool[whole:].copy()
            features = self._features(pool)
            for start in range(0, whole, size):
                batch = slice(start, start + size)
                yield {name: _as_trained(values[batch]) for name, values in features.items()}, _labels(pool[batch])
            del features, pool  # before the next ones are there

    def _pools(self, first: int, rows: int, random: np.random.Generator) -> Iterator[Records]:
        blocks = random.permutation(-(-rows // BLOCK))
        together = -(-self._pool // BLOCK)
        for start in range(0, len(blocks), together):
            places = blocks[start : start + together] * BLOCK
            yield np.concatenate([self._read(first + place, min(BLOCK, rows - place)) for place in places.tolist()])

    def _read(self, first: int, rows: int) -> Records:
        return np.fromfile(self._directory / ROWS, self._type, rows, offset=first * self._type.itemsize)

    def _features(self, records: Records) -> Features:
        features = {name: records["query"][name] for name in self._type["query"].names or ()}
        return features if self._spec is None else {**features, **self._histories(records, self._spec)}

    def _histories(self, records: Records, spec: FeatureSpec) -> Features:
        """Return `history` int32 and `history_age` float32, `[n, max_length]`."""
        codes = np.zeros((len(records), spec.max_length), np.int32)
        ages = np.zeros((len(records), spec.max_length), np.float32)
        back = np.arange(1, spec.max_length + 1)
        for rows, first, interactions in self._spans(records):
            start, end, own = (records[name][rows, np.newaxis].astype(np.int64) - first for name in _PLACES)
            places = end - back
            places -= places <= own
            present = places >= start
            looked_up = interactions[np.where(present, places, 0)]
            codes[rows] = np.where(present, looked_up["code"], 0)
            ages[rows] = np.where(present, records["time"][rows, np.newaxis] - looked_up["time"], 0)
        if spec.pad_left:
            codes, ages = codes[:, ::-1], ages[:, ::-1]
        return {HISTORY: codes, HISTORY_AGE: ages}

    def _spans(self, records: Records) -> Iterator[tuple[np.ndarray, int, Records]]:
        """Yield rows whose histories begin near one another, and the interactions that hold them, with the place of
        the first: the file is read from its beginning to its end, without what no row asks for."""
        order = np.argsort(records["start"], kind="stable")
        starts, done = records["start"][order].astype(np.int64), 0
        while done < len(order):
            first = int(starts[done])
            until = min(int(np.searchsorted(starts, first + _SPAN)), done + _CUT)
            rows = order[done:until]
            size = int(records["end"][rows].max()) - first
            place = first * INTERACTION.itemsize
            yield rows, first, np.fromfile(self._directory / HISTORIES, INTERACTION, size, offset=place)
            done = until


_PLACES: Final = ("start", "end", "own")


def _labels(records: Records) -> Features:
    """Return what `Labels` has of rows."""
    tasks = {name: records[name] for name in ("events", "ratings") if name in (records.dtype.names or ())}
    columns = {"items": records["item"], "users": records["user"], "weights": records["weight"], **tasks}
    return {name: _as_trained(values) for name, values in columns.items()}


def _as_trained(values: np.ndarray) -> np.ndarray:
    """Return codes as int64, as the towers take them."""
    return np.ascontiguousarray(values, np.int64 if values.dtype.kind in "iu" else values.dtype)
