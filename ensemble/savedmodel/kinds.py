"""Each kind of feature in TensorFlow, by the `op` of its step, as far as it can be expressed exactly.

The operators are those of `ensemble/serving/query/kinds`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ensemble.release.raw_feeds import NULLS
from ensemble.serving.query.times import DAY, FAR, PERIODS
from ensemble.serving.query.vocabulary import FIRST_KNOWN, NULL

if TYPE_CHECKING:
    from ensemble.savedmodel.columns import RawColumns

Made = tuple[tf.Tensor, ...]


def is_null(values: tf.Tensor) -> tf.Tensor:
    """Return which values of a raw column are null, bool."""
    return tf.math.is_nan(values) if values.dtype.is_floating else values == NULLS[values.dtype.name]


def _categorical(columns: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    codes = columns.codes(step, dtypes[0])
    return lambda values: (tf.where(is_null(values), tf.constant(NULL, tf.int64), codes(values)),)


def _lookup(columns: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    code = _categorical(columns, step, dtypes)
    table = tf.Variable(np.load(columns.directory / f"{step['table']}.npy"), trainable=False)
    columns.resources[f"{step['table']}.table"] = table
    return lambda values: (tf.gather(table, code(values)[0]),)


def _continuous(_: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    return lambda values: (_scaled(tf.cast(values, tf.float64), is_null(values), step),)


def _age(_: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    def work(since: tf.Tensor, until: tf.Tensor) -> Made:
        passed = (tf.cast(until, tf.float64) - tf.cast(since, tf.float64)) / step["unit"]
        return (_scaled(passed, is_null(since) | is_null(until) | tf.math.is_nan(passed), step),)

    return work


def _scaled(numbers: tf.Tensor, null: tf.Tensor, step: dict[str, Any]) -> tf.Tensor:
    numbers = tf.where(null, tf.constant(step["fill"], tf.float64), numbers)
    low, high = step.get("clip_min", -np.inf), step.get("clip_max", np.inf)
    numbers = tf.minimum(tf.maximum(numbers, tf.constant(low, tf.float64)), tf.constant(high, tf.float64))
    if step.get("log"):
        numbers = tf.sign(numbers) * tf.math.log1p(tf.abs(numbers))
    return tf.cast((numbers - step["mean"]) / step["std"], tf.float32)


def _bucketized(_: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    edges = tf.constant(step["edges"], tf.float64)

    def work(values: tf.Tensor) -> Made:
        bucket = tf.searchsorted(edges, tf.cast(values, tf.float64), side="right", out_type=tf.int64)
        return (tf.where(is_null(values), tf.constant(NULL, tf.int64), bucket + FIRST_KNOWN),)

    return work


def _time(_: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    return lambda values: (_code_of(_seconds(values), step["part"], step["offset"]),)


def _cyclic(_: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    return lambda values: (_wave_of(_seconds(values), step["part"], step["offset"]),)


def _seconds(values: tf.Tensor) -> tf.Tensor:
    return tf.where(is_null(values), tf.constant(np.nan, tf.float64), tf.cast(values, tf.float64))


def _code_of(seconds: tf.Tensor, part: str, offset: int) -> tf.Tensor:
    """Return 3 + the hour, the weekday (Monday 0) or the month (January 0), int64 `[n]`; 1 for what is no time."""
    present = tf.abs(seconds) < FAR
    whole = tf.cast(tf.floor(tf.where(present, seconds, 0.0)), tf.int64) + offset
    if part in PERIODS:
        period, unit, start = PERIODS[part]
        index = (whole - start) % period // unit
    else:
        index = _month(whole // DAY)
    return tf.where(present, index + FIRST_KNOWN, tf.constant(NULL, tf.int64))


def _wave_of(seconds: tf.Tensor, part: str, offset: int) -> tf.Tensor:
    """Return sine and cosine of the place in the day, week or year, float32 `[n, 2]`; zeros for what is no time."""
    present = tf.abs(seconds) < FAR
    local = tf.where(present, seconds, 0.0) + offset
    if part in PERIODS:
        period, _, start = PERIODS[part]
        fraction = (local - start) % period / period
    else:
        fraction = tf.cast(_month(tf.cast(tf.floor(local), tf.int64) // DAY), tf.float64) / 12
    wave = tf.stack([tf.sin(2 * np.pi * fraction), tf.cos(2 * np.pi * fraction)], axis=1)
    return tf.cast(tf.where(present[:, tf.newaxis], wave, 0.0), tf.float32)


def _month(days: tf.Tensor) -> tf.Tensor:
    """Return the month, January 0, of days since 1970, int64; as Hinnant's `civil_from_days`: years begin in March."""
    of_era = (days + 719_468) % 146_097  # since 0000-03-01, in 400 years
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    return ((5 * of_year + 2) // 153 + 2) % 12


def _multi_hot(columns: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    codes = columns.codes(step, dtypes[0])
    return lambda values: (_window(codes(values), ~is_null(values), step),)


def _weighted_multi_hot(columns: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    codes = columns.codes(step, dtypes[0])

    def work(values: tf.Tensor, weights: tf.Tensor) -> Made:
        not_null = ~is_null(values) & ~is_null(weights)
        return _window(codes(values), not_null, step), _window(tf.cast(weights, tf.float32), not_null, step)

    return work


def _vector(columns: RawColumns, step: dict[str, Any], dtypes: list[str]) -> Callable[..., Made]:
    width = columns.width(step)

    def work(values: tf.Tensor) -> Made:
        numbers = tf.where(is_null(values), tf.constant(0.0, tf.float64), values)
        numbers = tf.pad(numbers, [[0, 0], [0, tf.where(tf.shape(values)[1] == 0, width, 0)]])  # nobody has one
        return (tf.ensure_shape(tf.cast(numbers, tf.float32), [None, width]),)

    return work


def _window(values: tf.Tensor, not_null: tf.Tensor, step: dict[str, Any]) -> tf.Tensor:
    """Return the first or last kept entries of every row, `[n, max_length]`, with zeros after or before them."""
    width = step["max_length"]
    lists = tf.ragged.boolean_mask(values, not_null)
    lists = lists[:, -width:] if step.get("keep_last") else lists[:, :width]
    padded = lists.to_tensor(shape=[None, width])
    if not step.get("pad_left"):
        return padded
    lengths = tf.cast(lists.row_lengths(), tf.int32)[:, tf.newaxis]
    places = tf.range(width) - (width - lengths)
    moved = tf.gather(padded, tf.maximum(places, 0), batch_dims=1)
    return tf.where(places >= 0, moved, tf.zeros_like(moved))


OPERATORS: Mapping[str, Callable[[RawColumns, dict[str, Any], list[str]], Callable[..., Made]]] = {
    "categorical": _categorical,
    "continuous": _continuous,
    "age": _age,
    "bucketized": _bucketized,
    "time": _time,
    "cyclic": _cyclic,
    "multi_hot": _multi_hot,
    "weighted_multi_hot": _weighted_multi_hot,
    "lookup": _lookup,
    "vector": _vector,
}
