"""The rows that a ranker is trained on: what the towers retrieve for each, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.config import Model, Train
from models.data import queries, users_and_seen, with_history
from models.metrics import Float32Array, Int64Array
from models.ranking.candidates import Retrieval
from models.towers.onnx import run_tower
from models.towers.two_tower import TwoTowerModel
from models.training.early_stopping import encode_items, encode_queries
from models.training.losses.ratings import positives, weights
from workflows.columns import Columns
from workflows.features.stage import FeatureSet, Part

MOST_ROWS = 500_000
"""Trained on, drawn evenly where there are more: each row's candidates are held in memory."""
Encoded = Callable[[Mapping[str, np.ndarray]], Float32Array]
"""Query features to vectors."""


class Towers(NamedTuple):
    """What retrieves."""

    encode: Encoded
    items: Float32Array
    """`[items, d]`"""


class Rows(NamedTuple):
    """Rows and what the towers retrieve for each."""

    query: Mapping[str, np.ndarray]
    vectors: Float32Array
    targets: Int64Array
    candidates: np.ndarray
    """int32 `[rows, candidates]`, -1 where there are fewer."""
    weights: Float32Array


def exported_towers(directory: Path) -> Towers:
    """Return the towers that are released."""
    items = np.load(directory / "item_vectors.npy", allow_pickle=False)
    return Towers(lambda query: run_tower(directory / "query.onnx", query), items)


def searched_towers(data: FeatureSet, model: Model, train: Train, directory: Path) -> Towers:
    """Return the towers of the search, which have not seen the validation rows."""
    if not train.refit:
        return exported_towers(directory)
    towers = TwoTowerModel(data.query_specs, data.item_specs, data.items, model)
    towers.load_weights(directory / "checkpoints" / "best").expect_partial()

    def encode(query: Mapping[str, np.ndarray]) -> Float32Array:
        return encode_queries(towers, {name: tf.convert_to_tensor(values) for name, values in query.items()})

    return Towers(encode, encode_items(towers))


def training_rows(data: FeatureSet, part: Part, towers: Towers, train: Train, count: int, seed: int) -> Rows:
    """Return the rows of a part that are positives; candidates are what its users do not have in it."""
    whole = with_history(part, data.query_specs)
    drawn = np.flatnonzero(positives(part.interactions, train.objective.rating))
    if len(drawn) > MOST_ROWS:
        drawn = np.sort(np.random.default_rng(seed).choice(drawn, MOST_ROWS, replace=False))
    chosen = Part({name: values[drawn] for name, values in whole.query.items()}, part.interactions.iloc[drawn])
    share = weights(part.interactions, train.objective.rating)[drawn]
    return _rows(chosen, part, towers, count, share)


def held_out_rows(data: FeatureSet, part: Part, known: Part, towers: Towers, count: int, most: int) -> Rows:
    """Return rows of a part that is asked for, at most so many; candidates are what users do not have in `known`."""
    query_rows = queries(data, part, known.interactions)
    drawn = np.arange(len(query_rows.interactions))
    if len(drawn) > most:
        drawn = np.sort(np.random.default_rng(most).choice(drawn, most, replace=False))
    chosen = Part(
        {name: values[drawn] for name, values in query_rows.query.items()}, query_rows.interactions.iloc[drawn]
    )
    return _rows(chosen, known, towers, count, np.ones(len(drawn), np.float32))


def _rows(part: Part, known: Part, towers: Towers, count: int, share: Float32Array) -> Rows:
    users, seen = users_and_seen(part.interactions, known.interactions)
    vectors = towers.encode(part.query)
    candidates = Retrieval(vectors, towers.items).candidates(count, users, seen)
    return Rows(part.query, vectors, part.interactions[Columns.ItemIndex].to_numpy(np.int64), candidates, share)


def batches(rows: Rows, negatives: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Yield what `models.ranking.model.Batch` has, rows reshuffled every epoch, negatives redrawn every time."""
    features = {name: tf.convert_to_tensor(values) for name, values in rows.query.items()}
    tensors = [tf.convert_to_tensor(values) for values in (rows.vectors, rows.targets, rows.candidates, rows.weights)]
    size = min(batch_size, len(rows.targets))

    def batch(index: tf.Tensor) -> tuple[Any, ...]:
        vectors, targets, candidates, share = (tf.gather(values, index) for values in tensors)
        counts = tf.reduce_sum(tf.cast(candidates >= 0, tf.float32), axis=1, keepdims=True)
        places = tf.cast(tf.random.uniform([size, negatives]) * counts, tf.int32)
        drawn = tf.cast(tf.gather(candidates, places, batch_dims=1), tf.int64)
        items = tf.concat([targets[:, tf.newaxis], tf.where(drawn == targets[:, tf.newaxis], tf.int64.min, drawn)], 1)
        labels = tf.one_hot(tf.zeros([size], tf.int32), 1 + negatives)
        return {name: tf.gather(values, index) for name, values in features.items()}, vectors, items, labels, share

    order = tf.data.Dataset.range(len(rows.targets)).shuffle(len(rows.targets), seed=seed)
    return order.batch(size, drop_remainder=True).map(batch).prefetch(2)
