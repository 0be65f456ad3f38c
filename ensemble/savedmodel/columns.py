"""The release's compiled query transform as a TensorFlow graph: raw columns to the query tower's features.

`ensemble/savedmodel/kinds.py` has each kind of feature. In a raw column `NULLS` stand for a null. A list column is
`[n, m]`, padded with nulls, which a list feature leaves out anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ensemble.release.raw_feeds import ITEMS, NULLS, PADDING, TIMES, Unsupported
from ensemble.savedmodel.kinds import OPERATORS, Made, is_null
from ensemble.savedmodel.recommender import table_of
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.release import Folder
from ensemble.serving.query.kinds import OPERATORS as SERVED
from ensemble.serving.query.sequence import FIRST_ITEM, HISTORY, HISTORY_AGE, TIME
from ensemble.serving.query.vocabulary import FIRST_KNOWN, UNSEEN

Raw = Mapping[str, tf.Tensor]


class RawColumns:
    """The query transform of a release.

    Parameters
    ----------
    directory
        The folder `query` of the release.
    trained_ids
        The items that the towers were trained with, int64 or `str` objects `[items]`.

    Raises
    ------
    Unsupported
        It tokenises text, hashes strings or crosses columns, or has the empty string in a vocabulary, which is a null
        here.
    """

    def __init__(self, directory: Path, trained_ids: np.ndarray) -> None:
        document = json.loads((directory / "transform.json").read_text(encoding="utf-8"))
        self.inputs: list[dict[str, Any]] = document["inputs"]
        self._outputs = document["outputs"]
        self.directory = directory / "vocabulary"
        self.resources: dict[str, Any] = {}
        """Tables and variables; whatever saves the graph must keep a reference to them."""
        if any(feature["name"] == HISTORY for feature in self._outputs):
            self.resources[ITEMS] = table_of(trained_ids, np.arange(len(trained_ids)), -1)
        self._steps: list[Any] = [self._step(step) for step in document["steps"]]

    def signature(self) -> dict[str, tf.TensorSpec]:
        """Return the inputs: columns `[n]`, lists `[n, m]`, and with a history its items and times, `[n, m]`."""
        specs = {
            column["name"]: tf.TensorSpec([None, None] if column["list"] else [None], column["dtype"], column["name"])
            for column in self.inputs
        }
        if ITEMS in self.resources:
            specs[ITEMS] = tf.TensorSpec([None, None], self.resources[ITEMS].key_dtype, ITEMS)
            specs[TIMES] = tf.TensorSpec([None, None], tf.int64, TIMES)
        return specs

    def __call__(self, raw: Raw) -> dict[str, tf.Tensor]:
        """Return the tower's features of n rows: int64 or float32, `[n]` or `[n, max_length]`."""
        features: dict[str, tf.Tensor] = {}
        raw = self._dated(raw)
        for names, step in self._steps:
            features.update(zip(names, step(raw), strict=True))
        return features

    def _dated(self, raw: Raw) -> Raw:
        """Replace a null time by now, or by the time of the newest entry of the history if that is later."""
        if TIME not in raw or raw[TIME].dtype != tf.int64:
            return raw
        null = is_null(raw[TIME])
        # The clock is read only where it is asked for: TensorFlow refuses to read it while it is to be deterministic.
        now = tf.cond(tf.reduce_any(null), lambda: tf.cast(tf.timestamp(), tf.int64), lambda: tf.constant(0, tf.int64))
        latest = tf.fill(tf.shape(raw[TIME]), now)
        if ITEMS in raw:
            latest = tf.maximum(latest, tf.reduce_max(raw[TIMES], axis=1))
        return {**raw, TIME: tf.where(null, latest, raw[TIME])}

    def _step(self, step: dict[str, Any]) -> tuple[list[str], Callable[[Raw], Made]]:
        names = step.get("inputs") or [step["input"]]
        output, op = step["output"], step["op"]
        if op == "sequence":
            return [HISTORY, HISTORY_AGE], lambda raw: self._history(raw, step)
        operator = OPERATORS.get(op)
        if operator is None:
            raise Unsupported(f"feature '{output}': TensorFlow has no '{op}' that equals the release's")
        dtypes = [column["dtype"] for name in names for column in self.inputs if column["name"] == name]
        work = operator(self, step, dtypes)
        outputs = [output + suffix for suffix, _ in SERVED[op].makes]
        return outputs, lambda raw: work(*[raw[name] for name in names])

    def width(self, step: dict[str, Any]) -> int:
        """Return the width of a step's output."""
        return next(int(feature["max_length"]) for feature in self._outputs if feature["name"] == step["output"])

    def codes(self, step: dict[str, Any], dtype: str) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return a function from values to int64 codes, from 3 for known ones and 2 for others; it ignores nulls."""
        if "hash_buckets" in step:
            raise Unsupported(f"feature '{step['output']}': TensorFlow does not have the release's hash function")
        name = step["vocabulary"]
        if name not in self.resources:
            known = read_values(Folder(self.directory), name, dtype)
            if NULLS[dtype] in known.tolist():
                raise Unsupported(f"feature '{step['output']}': knows the value {NULLS[dtype]!r}, which is null here")
            self.resources[name] = table_of(known, np.arange(len(known)) + FIRST_KNOWN, UNSEEN)
        return self.resources[name].lookup

    def _history(self, raw: Raw, step: dict[str, Any]) -> Made:
        """Return codes and ages of the newest entries up to the query's time, newest first."""
        now = raw[TIME][:, tf.newaxis]
        # The later of equal times is the newer, so from the end; a stable sort keeps that.
        ids, times = raw[ITEMS][:, ::-1], raw[TIMES][:, ::-1]
        usable = (ids != PADDING[ids.dtype.name]) & (times <= now)
        order = tf.argsort(tf.where(usable, ~times, tf.int64.max), axis=1, stable=True)
        codes = tf.gather(tf.where(usable, self.resources[ITEMS].lookup(ids) + FIRST_ITEM, 0), order, batch_dims=1)
        ages = tf.gather(tf.where(usable, tf.cast(now - times, tf.float32), 0.0), order, batch_dims=1)
        width = step["max_length"]
        cut = [_widened(part[:, :width], width) for part in (codes, ages)]
        return tuple(part[:, ::-1] for part in cut) if step.get("pad_left") else tuple(cut)


def _widened(values: tf.Tensor, width: int) -> tf.Tensor:
    padded = tf.pad(values, [[0, 0], [0, tf.maximum(0, width - tf.shape(values)[1])]])
    return tf.ensure_shape(padded, [None, width])
