"""The NVTabular operators of our graphs: the stock ones where they hold, and thin guards where they do not.

Each works on pandas and on cuDF frames: text and lists are cleaned in host memory, the rest stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from merlin.schema import ColumnSchema, Schema, Tags
from nvtabular.ops import Bucketize, Categorify, ColumnSelector, Operator

from workflows.text import tokens

NULL = 1
UNSEEN = 2
FIRST_KNOWN = 3


class ToFloat(Operator):
    """Numbers to `dtype`; a null and a NaN are the same afterwards."""

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        out = type(df)()
        for name in col_selector.names:
            values = df[name].astype(self.dtype)
            # cuDF tells NaN from null and fills only nulls.
            out[name] = values.nans_to_nulls() if hasattr(values, "nans_to_nulls") else values
        return out

    @property
    def output_dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    @property
    def output_tags(self) -> list[Tags]:
        return [Tags.CONTINUOUS]


class Codes(Categorify):
    """`Categorify`, given only what it can take.

    Stock, a frame whose rows are all null raises IndexError, integers with a null lose their last digits or raise,
    and an empty frame raises. Nulls are code 1 here without being looked up.
    """

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        out = type(df)()
        for name in col_selector.names:
            out[name] = self._encoded(name, df[[name]].reset_index(drop=True))
        return out

    def _encoded(self, name: str, df: Any) -> Any:
        present = df[name].notna()
        known = df[present].reset_index(drop=True)
        if not len(known):
            return present.astype("int64") + NULL
        encoded = super().transform(ColumnSelector([name]), known)[name]
        if len(known) == len(df):
            return encoded
        codes = present.astype("int64") * 0 + NULL
        codes[present] = encoded.values
        return codes


class BucketCodes(Bucketize):
    """`Bucketize` as a categorical code: null 1, bucket i -> i + 3, as if the buckets were a vocabulary."""

    def __init__(self, edges: list[float]) -> None:
        super().__init__(edges)
        self.edges = edges

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        missing = {name: df[name].isna() for name in col_selector.names}
        out = super().transform(col_selector, df.fillna(0.0))
        for name in col_selector.names:
            codes = out[name].astype("int64") + FIRST_KNOWN
            codes[missing[name].values] = NULL
            out[name] = codes
        return out

    @property
    def output_dtype(self) -> type:
        return np.int64


class _HostLists(Operator):
    """Base of operators that make a list of each value, in host memory."""

    def _list_of(self, value: Any) -> list[Any]:
        raise NotImplementedError

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        out = type(df)()
        for name in col_selector.names:
            out[name] = _on_host(df[name], self._list_of)
        return out

    def _compute_shape(self, col_schema: ColumnSchema, input_schema: Schema) -> ColumnSchema:
        return super()._compute_shape(col_schema, input_schema).with_shape((None, (0, None)))


class CleanLists(_HostLists):
    """Nulls within a list are dropped, a null instead of a list is an empty list (stock `Categorify` mistakes both)."""

    def _list_of(self, value: Any) -> list[Any]:
        return [] if value is None else [entry for entry in value if entry is not None]


class Tokenize(_HostLists):
    """Text to its list of tokens, see `workflows.text`."""

    def __init__(self, ngrams: int) -> None:
        super().__init__()
        self.ngrams = ngrams

    def _list_of(self, value: Any) -> list[str]:
        return tokens(value, self.ngrams)


def _on_host(series: Any, function: Callable[[Any], list[Any]]) -> Any:
    if isinstance(series, pd.Series):
        return pd.Series([function(value) for value in series], index=series.index, dtype=object)
    values = [function(value) for value in series.to_arrow().to_pylist()]
    return type(series)(values, index=series.index)
