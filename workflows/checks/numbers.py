"""Numbers that no feature can be made of: what the features stage would refuse, found without fitting anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.checks.findings import EXAMPLES, Finding
from workflows.config import Continuous, Embedding, FeatureSide, MultiHot
from workflows.features.plan import named
from workflows.tables.store import Stored, read_part

Float64 = npt.NDArray[np.float64]
_SQUARED = 1e150
"""Numbers beyond have squares that, summed up, are no float64."""


def number_findings(stored: Stored, query: FeatureSide, item: FeatureSide) -> Iterator[Finding]:
    """Yield the columns that give a feature which is not finite in float32."""
    for side in (query, item):
        for entry in named(side):
            for column, wrong in _reads(entry.feature, entry.column):
                table, values = _column(stored, column, "items" if side is item else "users")
                bad = wrong(values) if values is not None else np.zeros(0, bool)
                if values is not None and bad.any():
                    yield _finding(table, column, values, bad)


def _reads(feature: Any, column: str) -> Iterator[tuple[str, Callable[[pd.Series], npt.NDArray[np.bool_]]]]:
    """Yield the columns of numbers that a feature reads, with what finds the rows that it cannot be made of."""
    if isinstance(feature, Continuous):
        yield column, lambda values: _unfit(values, feature)
    if isinstance(feature, Embedding) and not feature.file:
        yield column, lambda values: _lists(values, nan=True)
    if isinstance(feature, MultiHot) and feature.weights:
        yield feature.weights, lambda values: _lists(values, nan=False)


def _unfit(values: pd.Series, feature: Continuous) -> npt.NDArray[np.bool_]:
    if not pd.api.types.is_numeric_dtype(values):
        return np.zeros(len(values), bool)  # of another type, which is told elsewhere
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    numbers = np.where(np.isnan(numbers), feature.fill, numbers)
    if feature.clip_min is not None or feature.clip_max is not None:
        numbers = np.clip(numbers, feature.clip_min, feature.clip_max)
    with np.errstate(all="ignore"):
        if feature.log:
            numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
        scaled = _normalised(numbers, feature)
        wrong: npt.NDArray[np.bool_] = ~np.isfinite(scaled.astype(np.float32))
    return wrong & (np.abs(numbers) > _SQUARED) if wrong.all() and (np.abs(numbers) > _SQUARED).any() else wrong


def _normalised(numbers: Float64, feature: Continuous) -> Float64:
    if not feature.normalise:
        return numbers
    if not len(numbers):
        return numbers
    shift = float(numbers.min() if feature.normalise == "min-max" else numbers.mean())
    scale = float(np.ptp(numbers) if feature.normalise == "min-max" else np.std(numbers))
    if not (np.isfinite(shift) and np.isfinite(scale)):
        return np.full(len(numbers), np.nan)
    return (numbers - shift) / (scale if scale > 0 else 1.0)


def _lists(values: pd.Series, nan: bool) -> npt.NDArray[np.bool_]:
    def wrong(row: Any) -> bool:
        if not isinstance(row, (list, tuple, np.ndarray)) or any(isinstance(one, str) for one in row):
            return False
        with np.errstate(over="ignore"):
            numbers = np.array([np.nan if one is None else one for one in row], np.float64).astype(np.float32)
        return bool((np.isinf(numbers) | (np.isnan(numbers) & nan)).any())

    return np.fromiter(map(wrong, values), dtype=bool, count=len(values))


def _column(stored: Stored, column: str, entities: str) -> tuple[str, pd.Series | None]:
    """Return the table that has the column, as the features stage finds it, and its values; None where none has."""
    first = read_part(stored.parts[0]).columns
    if entities == "users" and column in first:
        return "interactions", pd.concat([read_part(path, [column])[column] for path in stored.parts])
    frame = stored.items if entities == "items" else stored.users
    if column not in frame:
        return entities, None
    return entities, frame[column]


def _finding(table: str, column: str, values: pd.Series, bad: npt.NDArray[np.bool_]) -> Finding:
    rows = np.flatnonzero(bad)
    return Finding(
        severity="error",
        check="not-finite",
        table=table,
        column=column,
        rows=len(rows),
        of=len(values),
        message="makes a feature that is not finite in float32: a NaN in a vector, or a number that is too large",
        remedy="correct the values, make them null, or set clip_min and clip_max",
        examples=[{"row": int(row), column: str(values.iloc[row])[:60]} for row in rows[:EXAMPLES]],
    )
