"""The NVTabular operators of numbers: floats, logarithm, normalisation, buckets, and what a time says.

Each works on pandas and on cuDF frames, a partition at a time, and computes in float64.
Stock operators fill an empty frame column by column, which takes pandas longer than what they compute; ours make it of
all columns at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from merlin.schema import Tags
from nvtabular.ops import Bucketize, ColumnSelector, Normalize, NormalizeMinMax, Operator, StatOperator

from workflows.errors import DataError
from workflows.operators.codes import FIRST_KNOWN, NULL
from workflows.operators.frames import floats, of_lists
from workflows.operators.per_column import CodesOut, PerColumn, VectorsOut
from workflows.operators.summaries import SAMPLE, each_part, merge_moments, moments, quantiles, sample
from workflows.operators.times import TimeOf, fraction_of, index_of

Float64 = npt.NDArray[np.float64]


class ToFloat(PerColumn, Operator):
    """Numbers to `dtype`; a null and a NaN are the same afterwards."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def _column(self, name: str, values: Any) -> Any:
        numbers = values.astype(self.dtype)
        # cuDF tells NaN from null and fills only nulls.
        return numbers.nans_to_nulls() if hasattr(numbers, "nans_to_nulls") else numbers

    @property
    def output_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    @property
    def output_tags(self) -> list[Tags]:
        return [Tags.CONTINUOUS]


class SignedLog(PerColumn, Operator):
    """log(1 + x), and -log(1 - x) below zero, in float64: stock `LogOp` computes in float32 and fails below -1."""

    def _column(self, name: str, values: Any) -> Any:
        numbers = floats(values)
        return type(values)(np.copysign(np.log1p(np.abs(numbers)), numbers), index=values.index)

    @property
    def output_dtype(self) -> type:
        return np.float64


class Standardise(PerColumn, Normalize):
    """`Normalize` to float32, which keeps the spread of numbers that are large beside it, and refuses what has no mean.

    Raises
    ------
    DataError
        An infinity among the training rows, or numbers whose mean, spread or range is no float64.
    """

    def __init__(self, column: str) -> None:
        super().__init__(out_dtype=np.float32)
        self.column = column

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Any:
        return {name: each_part(ddf[name], moments) for name in col_selector.names}

    def fit_finalize(self, dask_stats: Any) -> None:
        for name, parts in dask_stats.items():
            moments = merge_moments(parts)
            _check_finite(self.column, moments.mean, moments.squares)
            self.means[name], self.stds[name] = moments.mean, moments.deviation

    def _column(self, name: str, values: Any) -> Any:
        mean, deviation = self.shift_and_scale(name)
        return ((values - mean) / deviation).astype(np.float32)

    def shift_and_scale(self, name: str) -> tuple[float, float]:
        """Return what is subtracted, and what is divided by then: the stock operator does not divide by 0 or NaN."""
        return self.means[name], self.stds[name] if self.stds[name] > 0 else 1.0


class MinMax(PerColumn, NormalizeMinMax):
    """`NormalizeMinMax` to float32; where all training values are equal, they become 0 (stock: 0.5, or NaN for zeros).

    Raises
    ------
    DataError
        An infinity among the training rows, or numbers whose mean, spread or range is no float64.
    """

    def __init__(self, column: str) -> None:
        super().__init__(out_dtype=np.float32)
        self.column = column

    def fit_finalize(self, dask_stats: Any) -> None:
        super().fit_finalize(dask_stats)
        low, high = ([float(value) for value in extremes.values()] for extremes in (self.mins, self.maxs))
        with np.errstate(over="ignore", invalid="ignore"):
            _check_finite(self.column, *np.subtract(high, low))

    def _column(self, name: str, values: Any) -> Any:
        low, scale = self.shift_and_scale(name)
        return ((values - low) / scale).astype(np.float32)

    def shift_and_scale(self, name: str) -> tuple[float, float]:
        """Return what is subtracted, and what is divided by then."""
        low, high = float(self.mins[name]), float(self.maxs[name])
        return low, high - low if high > low else 1.0


class BucketCodes(CodesOut, Bucketize):
    """`Bucketize` as a categorical code: null 1, bucket i -> i + 3, as if the buckets were a vocabulary."""

    def __init__(self, edges: list[float]) -> None:
        super().__init__(edges)
        self.edges = edges

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        if isinstance(df, pd.DataFrame):
            return pd.DataFrame({name: self._codes(df[name]) for name in col_selector.names})
        return bucket_codes(super().transform, col_selector, df)

    def _codes(self, values: pd.Series) -> pd.Series:
        """Return the same as stock, without the frames."""
        numbers = floats(values)
        codes = np.where(np.isnan(numbers), NULL, np.digitize(numbers, self.edges) + FIRST_KNOWN)
        return pd.Series(codes, index=values.index)


class FittedBuckets(CodesOut, StatOperator):
    """`BucketCodes` whose edges come from the training rows: evenly spaced, or quantiles.

    Quantiles are exact of one part, and of several as near as `workflows.operators.summaries` says.

    Raises
    ------
    DataError
        No training value is finite, or their range does not fit a float64.
    """

    def __init__(self, column: str, buckets: int, quantiles: bool) -> None:
        super().__init__()
        self.column, self.buckets, self.quantiles = column, buckets, quantiles
        self.edges: list[float] = []

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Any:
        column = ddf[col_selector.names[0]]
        if self.quantiles:
            return each_part(column, sample, SAMPLE if ddf.npartitions > 1 else None)
        finite = column.map_partitions(_finite)
        return finite.min(), finite.max()

    def fit_finalize(self, dask_stats: Any) -> None:
        if self.quantiles:
            self._check_any(sum(len(part.values) for part in dask_stats) > 0)
            levels = np.linspace(0, 1, self.buckets + 1)[1:-1]
            self.edges = np.unique(quantiles(dask_stats, levels)).tolist()
            return
        low, high = map(float, dask_stats)
        self._check_any(np.isfinite(low))
        with np.errstate(over="ignore", invalid="ignore"):
            edges = np.unique(np.linspace(low, high, self.buckets + 1)[1:-1])
        if not np.all(np.isfinite(edges)):
            raise DataError(f"column {self.column!r}: {low} to {high} is too wide a range to be bucketized")
        self.edges = edges.tolist()

    def _check_any(self, finite: bool) -> None:
        if not finite:
            raise DataError(f"column {self.column!r}: no finite value in the training rows, so it cannot be bucketized")

    def clear(self) -> None:
        self.edges = []

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        return BucketCodes(self.edges).transform(col_selector, df)


class Elapsed(Operator):
    """The seconds from one column to another, in a unit of so many seconds, float64; null where either is."""

    def __init__(self, name: str, since: str, until: str, unit_seconds: float) -> None:
        super().__init__()
        self.name, self.since, self.until, self.unit = name, since, until, unit_seconds

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        passed = (floats(df[self.until]) - floats(df[self.since])) / self.unit
        return type(df)({self.name: type(df[self.since])(passed, index=df.index)})

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {self.name: [self.since, self.until]}

    @property
    def output_dtype(self) -> type:
        return np.float64


class TimeCodes(CodesOut, PerColumn, Operator):
    """Seconds since 1970 to the code of their hour, weekday or month; null 1, the first of each 3."""

    def __init__(self, time: TimeOf) -> None:
        super().__init__()
        self.time = time

    def _column(self, name: str, values: Any) -> Any:
        index = index_of(floats(values), self.time)
        return type(values)(np.where(index < 0, NULL, index + FIRST_KNOWN), index=values.index)


class TimeWaves(VectorsOut, PerColumn, Operator):
    """Seconds since 1970 to sine and cosine of their place in the day, week or year; null is two zeros."""

    def __init__(self, time: TimeOf) -> None:
        super().__init__()
        self.time = time

    def _column(self, name: str, values: Any) -> Any:
        angle = 2 * np.pi * fraction_of(floats(values), self.time)
        waves = np.nan_to_num(np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(np.float32)
        return of_lists(values, list(waves))


def bucket_codes(bucketize: Any, col_selector: ColumnSelector, df: Any) -> Any:
    """Return what `Bucketize` makes of a frame, as codes."""
    missing = {name: df[name].isna() for name in col_selector.names}
    out = bucketize(col_selector, df.fillna(0.0))
    for name in col_selector.names:
        codes = out[name].astype("int64") + FIRST_KNOWN
        codes[missing[name].values] = NULL
        out[name] = codes
    return out


def _finite(values: Any) -> Any:
    return values[(values > -np.inf) & (values < np.inf)]


def _check_finite(column: str, *figures: float) -> None:
    if not np.isfinite(figures).all():
        raise DataError(
            f"column {column!r}: an infinity, or a number too large for its square, in the training rows cannot be "
            "normalised; remove it, or set clip_min and clip_max"
        )
