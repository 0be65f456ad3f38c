"""What features look like: to a tower, as arrays, and as a Merlin schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from merlin.schema import ColumnSchema, Schema, Tags
from nvtabular import Workflow

from workflows.columns import Columns
from workflows.features.plan import HISTORY_AGE, FeatureSpec, Planned, feature_spec
from workflows.fitting.learned import Learned
from workflows.operators.codes import FIRST_KNOWN
from workflows.operators.lists import weights_of

ID_TAGS = {Columns.User: Tags.USER_ID, Columns.Item: Tags.ITEM_ID}


class Array(NamedTuple):
    """One array of a feature: `[n]`, or `[n, width]` where there is a width."""

    name: str
    dtype: str
    width: int


def spec(workflow: Workflow, entry: Planned) -> FeatureSpec:
    """Return what a tower needs to know of a feature."""
    learned, feature = Learned(workflow), entry.feature
    cardinality = 0 if entry.is_numbers else FIRST_KNOWN + feature.codes(learned, entry.output)
    return feature_spec(entry, cardinality, learned.width(entry.output) if feature.width is None else feature.width)


def arrays_of(spec: FeatureSpec) -> list[Array]:
    """Return the arrays that a feature consists of; the history's are `workflows.features.history`' affair."""
    width = spec.max_length
    weights = [Array(weights_of(spec.name), "float32", width)] if spec.kind == "weighted-list" else []
    return [Array(spec.name, spec.dtype, width), *weights]


def arrays(frame: pd.DataFrame, planned: Sequence[Planned], specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    """Return what a workflow made as arrays: int64 or float32, [n] or [n, width] padded with zeros."""
    return {
        array.name: _array(frame[array.name], array, getattr(entry.feature, "padding", "right") == "left")
        for entry, spec in zip(planned, specs, strict=True)
        for array in arrays_of(spec)
    }


def no_arrays(specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    """Return the arrays of no rows."""
    named_arrays = (array for spec in specs for array in arrays_of(spec))
    return {array.name: np.zeros((0, array.width) if array.width else 0, array.dtype) for array in named_arrays}


def merlin_schema(query: Sequence[FeatureSpec], item: Sequence[FeatureSpec]) -> Schema:
    """Return both sides as one Merlin schema: USER or ITEM, CATEGORICAL or CONTINUOUS, ids, integer domains."""
    sides = ((query, Tags.USER), (item, Tags.ITEM))
    return Schema([column for specs, side in sides for spec in specs for column in _columns(spec, side)])


def _array(column: pd.Series, array: Array, pads_left: bool) -> np.ndarray:
    if not array.width:
        return column.to_numpy(dtype=array.dtype)
    padded = np.zeros((len(column), array.width), dtype=array.dtype)
    lengths = np.fromiter((0 if row is None else len(row) for row in column), dtype=np.int64, count=len(column))
    if not lengths.any():
        return padded
    places = np.arange(array.width)
    filled = (places >= array.width - lengths[:, None]) if pads_left else (places < lengths[:, None])
    padded[filled] = np.concatenate([np.asarray(row, array.dtype) for row in column if row is not None])
    return padded


def _columns(spec: FeatureSpec, side: Tags) -> Iterator[ColumnSchema]:
    tags = [side, Tags.CATEGORICAL if spec.cardinality else Tags.CONTINUOUS]
    if spec.source in ID_TAGS and spec.kind == "categorical" and spec.name == spec.source:
        tags += [ID_TAGS[spec.source], Tags.ID]
    if spec.kind == "sequence":
        tags.append(Tags.SEQUENCE)
    properties: dict[str, Any] = {}
    if spec.cardinality:
        properties["domain"] = {"min": 0, "max": spec.cardinality - 1, "name": spec.table or spec.name}
    dims = (None, spec.max_length) if spec.max_length else (None,)
    yield ColumnSchema(spec.name, dtype=np.dtype(spec.dtype), tags=tags, properties=properties, dims=dims)
    seconds = {"sequence": HISTORY_AGE, "weighted-list": weights_of(spec.name)}.get(spec.kind)
    if seconds:
        tags = [side, Tags.CONTINUOUS, *([Tags.SEQUENCE] if spec.kind == "sequence" else [])]
        yield ColumnSchema(seconds, dtype=np.dtype("float32"), tags=tags, dims=dims)
