"""The rows trained on, as batches take them: by row number, with histories cut from one sorted index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from models.data import asked
from models.training.horovod import Ranks
from workflows.columns import Columns
from workflows.features.history import Timeline, sequence_spec
from workflows.features.plan import FIRST_ITEM, HISTORY, HISTORY_AGE
from workflows.features.stage import FeatureSet, FeatureSpec, Part

RANGES: Final = "history.ranges"
"""int32 or int64 `[n, 3]` among the features of rows: where each row's history lies in `Histories`."""
TIMES: Final = "history.times"
"""int64 `[n]`: the seconds of rows that are not themselves among the interactions that they look back on."""


class Histories(NamedTuple):
    """The interactions of all users by user and time, from which the histories of a batch are cut.

    Each is `workflows.features.history.history_features` of its row.
    """

    items: tf.Tensor
    """int32 `[interactions]`, the codes of their items."""
    seconds: tf.Tensor
    """int32 `[interactions]`, int64 where that is too narrow (before 1901, from 2038 on)."""
    spec: FeatureSpec

    def cut(self, ranges: tf.Tensor, times: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Return `history` int64 and `history_age` float32, `[n, max_length]`, of RANGES and of TIMES, if any."""
        start, end, own = (column[:, tf.newaxis] for column in tf.unstack(ranges, axis=1))
        places = end - tf.range(1, self.spec.max_length + 1, dtype=ranges.dtype)
        places -= tf.cast(places <= own, ranges.dtype)
        present = places >= start
        places = tf.where(present, places, 0)
        codes = tf.where(present, tf.cast(tf.gather(self.items, places), tf.int64), 0)
        now = self._seconds_at(own) if times is None else times[:, tf.newaxis]
        elapsed = now - self._seconds_at(places)
        ages = tf.where(present, tf.cast(elapsed, tf.float32), 0.0)
        newest_last = [1] if self.spec.pad_left else []
        return {HISTORY: tf.reverse(codes, newest_last), HISTORY_AGE: tf.reverse(ages, newest_last)}

    def _seconds_at(self, places: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self.seconds, places), tf.int64)


def with_ranges(
    part: Part, specs: Sequence[FeatureSpec], known: pd.DataFrame | None = None
) -> tuple[Part, Histories | None]:
    """Add where its history lies to the features of each row of a part, and return what it lies in.

    Rows look back on `known`; without it on the others of the part. Without a history nothing is added.
    """
    spec, rows = sequence_spec(specs), part.interactions
    if spec is None:
        return part, None
    among = rows if known is None else known[known[Columns.User].isin(rows[Columns.User])]
    timeline = Timeline.of(rows, among, own=known is None)
    items = among[Columns.ItemIndex].to_numpy(np.int64)[timeline.order] + FIRST_ITEM
    seconds = among[Columns.Timestamp].to_numpy(np.int64)[timeline.order]
    ranges = np.stack([timeline.start, timeline.end, timeline.own], axis=1)
    added = {RANGES: ranges}
    if known is not None:
        present = timeline.start < timeline.end
        ranges[~present, :2] = 0  # rows without a history are alike, whatever their time
        added[TIMES] = np.where(present, rows[Columns.Timestamp].to_numpy(np.int64), 0)
    # `tf.gather` takes from one row at least.
    items, seconds = (column if len(column) else np.zeros(1, np.int64) for column in (items, seconds))
    histories = Histories(tf.constant(items, tf.int32), tf.constant(_narrow(seconds)), spec)
    return part._replace(query={**part.query, **added, RANGES: _narrow(ranges)}), histories


def validation_rows(data: FeatureSet) -> tuple[Part, Histories | None]:
    """Return the validation rows that are asked for, and what their histories are cut from."""
    known = data.train.interactions
    if data.asked == "continued":
        part, histories = with_ranges(data.valid, data.query_specs)
        return asked(data, part, known), histories
    return with_ranges(asked(data, data.valid, known), data.query_specs, known)


class Rows:
    """Query features of rows by their numbers; whole numbers are held in 32 bits where they fit."""

    def __init__(self, part: Part, histories: Histories | None) -> None:
        self._held = {name: tf.constant(_narrow(values)) for name, values in part.query.items()}
        self._types = {name: values.dtype for name, values in part.query.items()}
        self._histories, self._total = histories, len(part.interactions)

    def __len__(self) -> int:
        """Return how many there are."""
        return self._total

    def features(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the tower inputs of rows, int64 `[n]`."""
        inputs = {name: tf.cast(tf.gather(values, rows), self._types[name]) for name, values in self._held.items()}
        if self._histories is not None:
            inputs.update(self._histories.cut(inputs.pop(RANGES), inputs.pop(TIMES, None)))
        return inputs

    def column(self, name: str) -> np.ndarray:
        """Return a feature of all rows; not the history."""
        return self._held[name].numpy().astype(self._types[name], copy=False)

    def first(self, most: int) -> dict[str, tf.Tensor]:
        """Return those of the first rows, at most so many."""
        return self.features(tf.range(min(most, len(self)), dtype=tf.int64))

    def blocks(self, rows: np.ndarray | None = None, size: int = 8192) -> Iterator[dict[str, tf.Tensor]]:
        """Yield those of these rows, int64 `[n]`, or of all, in order, some at a time."""
        rows = np.arange(len(self)) if rows is None else rows
        for start in range(0, len(rows), size):
            yield self.features(tf.constant(rows[start : start + size], tf.int64))


def _narrow(values: np.ndarray) -> np.ndarray:
    bounds = np.iinfo(np.int32)
    fits = values.dtype == np.int64 and values.size and bounds.min <= values.min() and values.max() <= bounds.max
    return values.astype(np.int32) if fits else values


def shuffled_batches(total: int, batch_size: int, seed: int, ranks: Ranks) -> tf.data.Dataset:
    """Yield the row numbers of each batch, int64 `[batch]`, all rows in another order every epoch, drawn by the seed;
    the short last batch is left out. All ranks have the same batches, and each takes its share."""
    size, epochs = min(batch_size, total - total % ranks.size), count()
    steps, dtype = total // size, np.dtype(np.int32 if total < 2**31 else np.int64)

    def epoch() -> Iterator[np.ndarray]:
        order = np.arange(total, dtype=dtype)
        np.random.default_rng([seed, next(epochs)]).shuffle(order)
        yield order[: steps * size].reshape(steps, size)

    orders = tf.data.Dataset.from_generator(epoch, output_signature=tf.TensorSpec([steps, size], dtype))
    batches = orders.unbatch().map(lambda rows: tf.cast(rows[ranks.share(batch_size)], tf.int64))
    return batches.apply(tf.data.experimental.assert_cardinality(steps))
