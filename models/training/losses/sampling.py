"""The items that a target competes with: what users have already, and the samplers of negatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from models.config import Sampled
from models.data import users_and_seen
from models.metrics import SeenItems
from workflows.columns import Columns

TABLE = 2**24
"""Who has what is kept as users times items if that is no more, bytes: looking it up takes a twentieth of the time."""


class ItemCounts:
    """How often the items of a catalogue occur in the rows trained on.

    Attributes
    ----------
    counts: float32 `[items]`, how many rows an item has
    total: how many rows there are

    Parameters
    ----------
    counts
        How often they occur, int64 `[items]`.
    seen
        Returns what each user has; asked where an objective wants to know.
    """

    def __init__(self, counts: npt.NDArray[np.int64], seen: Callable[[], SeenItems]) -> None:
        self.num_items, self.total = len(counts), int(counts.sum())
        self.counts, self._exact, self._read_seen = tf.constant(counts, tf.float32), counts, seen

    @cached_property
    def _until(self) -> tf.Tensor:
        """How many rows items have up to each, int64 `[items]`."""
        with tf.init_scope():
            return tf.constant(np.cumsum(self._exact))

    def popular(self, size: int) -> tf.Tensor:
        """Draw items as often as they occur, with replacement, int64 `[size]`."""
        row = tf.random.uniform([size], maxval=self.total, dtype=tf.int64)
        return tf.searchsorted(self._until, row, side="right", out_type=tf.int64)

    @cached_property
    def _seen(self) -> tuple[tf.RaggedTensor, tf.Tensor | None]:
        """What each user has, and as a table where that is small."""
        owned = self._read_seen()
        with tf.init_scope():
            ragged = tf.RaggedTensor.from_row_splits(owned.items, owned.offsets)
            small = (len(owned.offsets) - 1) * self.num_items <= TABLE
            return ragged, tf.constant(_table(owned, self.num_items)) if small else None

    def owned(self, users: tf.Tensor, candidates: tf.Tensor | None = None) -> tf.Tensor:
        """Return whether each of `[n]` users has each of `[c]` items, or of all, in a row trained on, bool `[n, c]`."""
        owned, table = self._seen
        if candidates is None:
            if table is not None:
                return tf.gather(table, users)
            candidates = tf.range(self.num_items, dtype=tf.int64)
        distinct, column = tf.unique(candidates)
        columns = tf.range(1, tf.size(distinct) + 1)
        column_of = tf.scatter_nd(distinct[:, tf.newaxis], columns, [self.num_items])  # 0: no candidate
        theirs = tf.gather(owned, users)
        pairs = tf.stack([tf.cast(theirs.value_rowids(), tf.int32), tf.gather(column_of, theirs.values)], axis=1)
        has = tf.scatter_nd(pairs, tf.ones(tf.shape(pairs)[:1]), [tf.size(users), tf.size(distinct) + 1]) > 0
        return tf.gather(has, column + 1, axis=1)


class TrainingRows(ItemCounts):
    """The rows trained on, as tensors.

    Attributes
    ----------
    items, users: int64 `[rows]`; users are numbered from 0

    Parameters
    ----------
    known
        What users have already; by default the rows trained on.
    """

    def __init__(self, interactions: pd.DataFrame, num_items: int, known: pd.DataFrame | None = None) -> None:
        users = pd.factorize(interactions[Columns.User])[0].astype(np.int64)
        items = interactions[Columns.ItemIndex].to_numpy(np.int64)
        known = interactions if known is None else known
        super().__init__(np.bincount(items, minlength=num_items), lambda: users_and_seen(interactions, known)[1])
        self.users, self.items = tf.constant(users), tf.constant(items)

    def popular(self, size: int) -> tf.Tensor:
        """Draw the items of rows, with replacement, int64 `[size]`."""
        return tf.gather(self.items, tf.random.uniform([size], maxval=self.total, dtype=tf.int64))


def _table(owned: SeenItems, num_items: int) -> npt.NDArray[np.bool_]:
    has = np.zeros((len(owned.offsets) - 1, num_items), bool)
    has[np.repeat(np.arange(len(has)), np.diff(owned.offsets)), owned.items] = True
    return has


def distinct(items: tf.Tensor, fixed_shapes: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Return items, int64 `[n]`, each once, and for each of the `n` which of them it is, int32; with `fixed_shapes` as
    many as there were, the first item again where they are fewer."""
    once, column = tf.unique(items)
    if fixed_shapes:
        once = tf.concat([once, tf.repeat(once[:1], tf.size(items) - tf.size(once))], axis=0)
    return once, column


class Negatives(NamedTuple):
    """What every row of a batch competes with."""

    items: tf.Tensor
    """int64 `[c]`, an item as often as it was drawn."""
    vectors: tf.Tensor
    """float32 `[c, d]`."""
    log_expected: tf.Tensor
    """float32 `[c]`: the logarithm of how often the item is expected in `items`."""


class Sampler:
    """Negatives from the batch, the catalogue, the training rows and earlier batches.

    An item counts as expected with its exact probabilities: in a group of the batch, where the other rows are drawn
    without replacement from the rows of other numbers, (group - 1) * count / (rows - 1); among the drawn ones
    uniform / items + popularity * count / rows; in the cache cached * count / rows.
    """

    def __init__(self, config: Sampled, rows: ItemCounts, dim: int) -> None:
        self.config, self.rows = config, rows
        self._items = tf.Variable(tf.zeros([config.cached], tf.int64), trainable=False)
        self._vectors = tf.Variable(tf.zeros([config.cached, dim]), trainable=False)
        self._filled = tf.Variable(0, trainable=False)

    def draw(self) -> tf.Tensor:
        """Draw uniform and popular items with replacement, int64 `[uniform + popularity]`."""
        uniform = tf.random.uniform([self.config.uniform], maxval=self.rows.num_items, dtype=tf.int64)
        return tf.concat([uniform, self.rows.popular(self.config.popularity)], axis=0)

    def with_cached(self, items: tf.Tensor, vectors: tf.Tensor, group: tf.Tensor) -> Negatives:
        """Add the cached items to those of a group and the drawn ones, int64 `[c]` with float32 `[c, d]` vectors."""
        items = tf.concat([items, self._items[: self._filled]], axis=0)
        vectors = tf.concat([vectors, self._vectors[: self._filled]], axis=0)
        return Negatives(items, vectors, tf.math.log(self.expected(items, group)))

    def expected(self, items: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Return how often items are expected among the negatives of a row with another target, float32 `[c]`."""
        rows = self.rows.total
        per_row = tf.cast(group - 1, tf.float32) / max(rows - 1, 1)
        per_row += tf.cast(self.config.popularity + self._filled, tf.float32) / rows
        return per_row * tf.gather(self.rows.counts, items) + self.config.uniform / self.rows.num_items

    def remember(self, items: tf.Tensor, vectors: tf.Tensor) -> None:
        """Put a batch's items first in the cache; the oldest fall out."""
        if not self.config.cached:
            return
        size = self.config.cached
        self._items.assign(tf.concat([items, self._items], axis=0)[:size])
        self._vectors.assign(tf.concat([vectors, self._vectors], axis=0)[:size])
        self._filled.assign(tf.minimum(self._filled + tf.size(items), size))
