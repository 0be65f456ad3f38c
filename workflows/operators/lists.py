"""The NVTabular operators that make lists: clean ones, of words, cut ones, vectors; in host memory, by partition."""

from __future__ import annotations

from typing import Any

import numpy as np
from merlin.schema import ColumnSchema, Schema
from nvtabular.ops import ColumnSelector, Operator, StatOperator

from workflows.errors import DataError
from workflows.operators.frames import lists, of_lists
from workflows.operators.per_column import ListsOut, PerColumn, VectorsOut
from workflows.operators.text import tokens


class _Lists(ListsOut, PerColumn, Operator):
    """Base of operators that make a list of each value."""

    def _list_of(self, value: Any) -> list[Any]:
        raise NotImplementedError

    def _column(self, name: str, values: Any) -> Any:
        return of_lists(values, [self._list_of(value) for value in lists(values)])


class CleanLists(_Lists):
    """Nulls within a list are dropped, a null instead of a list is an empty list (stock `Categorify` mistakes both)."""

    def _list_of(self, value: Any) -> list[Any]:
        return [] if value is None else [entry for entry in value if entry is not None]


class Tokenize(_Lists):
    """Text to its list of tokens, see `workflows.operators.text`."""

    def __init__(self, ngrams: int) -> None:
        super().__init__()
        self.ngrams = ngrams

    def _list_of(self, value: Any) -> list[str]:
        return tokens(value, self.ngrams)


class CutLists(_Lists):
    """The first entries of each list, or the last ones (NVTabular `ListSlice`, which cannot take a null)."""

    def __init__(self, length: int, last: bool = False) -> None:
        super().__init__()
        self.kept = slice(-length, None) if last else slice(length)

    def _list_of(self, value: Any) -> Any:
        return [] if value is None else value[self.kept]


class WeightedLists(Operator):
    """Lists of values and of their weights, as `name` and `<name>_weight`, without entries that lack one of the two.

    Raises
    ------
    DataError
        A list has another number of weights than values; names column and row of the partition.
    """

    def __init__(self, name: str, values: str, weights: str) -> None:
        super().__init__()
        self.name, self.values, self.weights = name, values, weights

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        pairs = [
            self._clean(row, *both)
            for row, both in enumerate(zip(lists(df[self.values]), lists(df[self.weights]), strict=True))
        ]
        cleaned = of_lists(df[self.values], [values for values, _ in pairs])
        weights = of_lists(df[self.values], [weights for _, weights in pairs])
        return type(df)({self.name: cleaned, weights_of(self.name): weights})

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {name: [self.values, self.weights] for name in (self.name, weights_of(self.name))}

    def _compute_dtype(self, col_schema: ColumnSchema, input_schema: Schema) -> ColumnSchema:
        """Weights are float64. Merlin would take the type of the first row's, and knows none of an empty list."""
        computed = super()._compute_dtype(col_schema, input_schema)
        return computed.with_dtype(np.float64) if col_schema.name == weights_of(self.name) else computed

    def _clean(self, row: int, values: Any, weights: Any) -> tuple[list[Any], list[float]]:
        values, weights = [] if values is None else values, [] if weights is None else weights
        if len(values) != len(weights):
            raise DataError(
                f"column {self.weights!r}: {len(weights)} weights of {len(values)} values of {self.values!r}, in row "
                f"{row} of a partition; give every value one"
            )
        cleaned = [
            (value, float(weight))
            for value, weight in zip(values, weights, strict=True)
            if value is not None and weight is not None and weight == weight
        ]
        return [value for value, _ in cleaned], [weight for _, weight in cleaned]


class Vectors(VectorsOut, PerColumn, StatOperator):
    """Lists of numbers, all of one length, as float32; a null is zeros. A null or a NaN within one stays NaN,
    which is refused later (`workflows.features.finite`).

    Raises
    ------
    DataError
        Two vectors differ in length, or there is none in the training rows.
    """

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column, self.width = column, 0

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Any:
        extremes = [ddf[name].map_partitions(_extremes) for name in col_selector.names]
        return {"low": extremes[0].min(), "high": extremes[0].max()}

    def fit_finalize(self, dask_stats: Any) -> None:
        low, high = dask_stats["low"], dask_stats["high"]
        if not high > 0:
            raise DataError(f"column {self.column!r}: no vector in the training rows; leave the feature out")
        if low != high:
            raise DataError(
                f"column {self.column!r}: vectors of {int(low)} and of {int(high)} numbers; make them of one length"
            )
        self.width = int(high)

    def clear(self) -> None:
        self.width = 0

    def _column(self, name: str, values: Any) -> Any:
        return of_lists(values, [self._vector(value) for value in lists(values)])

    def _vector(self, value: Any) -> Any:
        if value is None or not len(value):
            return np.zeros(self.width, dtype=np.float32)
        if len(value) != self.width:
            raise DataError(
                f"column {self.column!r}: a vector of {len(value)} numbers, expected {self.width} as in training"
            )
        with np.errstate(over="ignore"):
            return np.array(value, dtype=np.float64).astype(np.float32)


def weights_of(name: str) -> str:
    """Return the name of the array with the weights of a weighted list."""
    return f"{name}_weight"


def _extremes(values: Any) -> Any:
    """Return the lengths of the shortest and the longest list that is not empty, as a column."""
    lengths = [len(value) for value in lists(values) if isinstance(value, (list, tuple, np.ndarray)) and len(value)]
    return type(values)([float(min(lengths)), float(max(lengths))] if lengths else [np.nan, np.nan])
