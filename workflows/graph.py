"""The recipe's features as one NVTabular `Workflow`, the same graph for pandas and for cuDF."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
import nvtabular
import pandas as pd
from nvtabular.ops import FillMissing, ListSlice, Normalize, Rename

from workflows.config import Bucketized, Categorical, Continuous, Device, MultiHot, Text
from workflows.diagnostics import DataError, RecipeError
from workflows.inputs import Planned
from workflows.operators import FIRST_KNOWN, BucketCodes, CleanLists, Codes, ToFloat, Tokenize
from workflows.text import tokens


def wants_gpu(device: Device) -> bool:
    """Return whether features are computed with cuDF: what the recipe says, not what is importable.

    Raises
    ------
    RecipeError
        The recipe wants a GPU, and there is no cuDF or no device.
    """
    if device == "cpu":
        return False
    from merlin.core.compat import HAS_GPU, cudf

    if HAS_GPU and cudf is not None:
        return True
    if device == "gpu":
        what = "cuDF cannot be imported" if HAS_GPU else "no GPU is visible"
        raise RecipeError(
            f'device = "gpu": {what}; use the NGC container with a GPU, or set device = "auto" or "cpu" in the recipe'
        )
    return False


def build_workflow(planned: list[Planned], frame: pd.DataFrame, scratch: str) -> nvtabular.Workflow:
    """Return the unfitted workflow; one chain of operators per feature.

    Parameters
    ----------
    frame
        The canonical training rows (`workflows.inputs.canonical`): bucket edges are literal and come from them.
    scratch
        A directory of this workflow alone for vocabularies: NVTabular caches them by path.
    """
    chains = [_chain(entry, frame, scratch) for entry in planned]
    return nvtabular.Workflow(functools.reduce(operator.add, chains))


def even_edges(values: np.ndarray, buckets: int, column: str) -> list[float]:
    """Return the `buckets - 1` inner edges of equally wide buckets between the finite extremes of `values` (float64).

    Raises
    ------
    DataError
        No value is finite, or their range does not fit a float64.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise DataError(f"column {column!r}: no finite value in the training rows, so it cannot be bucketized")
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.unique(np.linspace(finite.min(), finite.max(), buckets + 1)[1:-1])
    if not np.all(np.isfinite(edges)):
        raise DataError(f"column {column!r}: {finite.min()} to {finite.max()} is too wide a range to be bucketized")
    return [float(edge) for edge in edges]


def _chain(entry: Planned, frame: pd.DataFrame, scratch: str) -> Any:
    feature = entry.feature
    # Named first: fitted statistics and vocabularies are then found under the feature's own name.
    named = [entry.column] >> Rename(name=entry.output)
    if isinstance(feature, Continuous):
        return _continuous(named, feature, entry, frame)
    if isinstance(feature, Bucketized):
        values = frame[entry.column].astype("float64").to_numpy()
        edges = even_edges(values, feature.buckets, entry.column)
        return named >> ToFloat("float64") >> BucketCodes(edges)
    _check_learnable(entry, frame)
    if isinstance(feature, Categorical):
        limits = {"freq_threshold": feature.min_frequency, "max_size": _table_size(feature.max_size)}
        return named >> Codes(out_path=scratch, dtype=np.int64, **limits)
    lists = named >> (Tokenize(feature.ngrams) if isinstance(feature, Text) else CleanLists())
    size = feature.max_tokens if isinstance(feature, Text) else feature.max_size
    return lists >> Codes(out_path=scratch, dtype=np.int64, max_size=_table_size(size)) >> ListSlice(feature.max_length)


def _check_learnable(entry: Planned, frame: pd.DataFrame) -> None:
    """Refuse a vocabulary without a value: NVTabular writes none and fails later, elsewhere."""
    values = frame[entry.column]
    if isinstance(entry.feature, Text):
        found = any(tokens(value, 1) for value in values)
    elif isinstance(entry.feature, MultiHot):
        found = any(value is not None for row in values if row is not None for value in row)
    else:
        found = bool(values.notna().any())
    if not found:
        raise DataError(f"column {entry.column!r}: nothing to learn from in the training rows; leave the feature out")


def _continuous(named: Any, feature: Continuous, entry: Planned, frame: pd.DataFrame) -> Any:
    values = frame[entry.column].astype("float64").to_numpy()
    if feature.normalise and np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(f"column {entry.column!r}, training row {row}: {values[row]} cannot be normalised; remove it")
    filled = named >> ToFloat("float64") >> FillMissing(feature.fill)
    return filled >> (Normalize(out_dtype=np.float32) if feature.normalise else ToFloat("float32"))


def _table_size(values: int | None) -> int:
    """`Categorify` counts padding, null and unseen in its `max_size`; 0 is no limit."""
    return 0 if values is None else values + FIRST_KNOWN
