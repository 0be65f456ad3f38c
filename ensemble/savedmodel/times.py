"""Parts of a time in TensorFlow; the functions of `ensemble/serving/query/times.py`."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ensemble.serving.query.times import DAY, FAR, PERIODS
from ensemble.serving.query.vocabulary import FIRST_KNOWN, NULL


def code_of(seconds: tf.Tensor, part: str, offset: int) -> tf.Tensor:
    """Return 3 + the hour, the weekday (Monday 0) or the month (January 0), int64 `[n]`; 1 for what is no time."""
    present = tf.abs(seconds) < FAR
    whole = tf.cast(tf.floor(tf.where(present, seconds, 0.0)), tf.int64) + offset
    if part in PERIODS:
        period, unit, start = PERIODS[part]
        index = (whole - start) % period // unit
    else:
        index = _month(whole // DAY)
    return tf.where(present, index + FIRST_KNOWN, tf.constant(NULL, tf.int64))


def wave_of(seconds: tf.Tensor, part: str, offset: int) -> tf.Tensor:
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
