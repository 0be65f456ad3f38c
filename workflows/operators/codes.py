"""The NVTabular operators that make codes: stock `Categorify` where it holds, and thin guards where it does not.

Each works on pandas and on cuDF frames, a partition at a time: lists and hashes are made in host memory, the rest stays
where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from merlin.core.dispatch import encode_list_column, flatten_list_column
from nvtabular.ops import Categorify, ColumnSelector, Operator

from workflows.errors import DataError
from workflows.operators.frames import counts_of_values, is_lists, of_lists, on_host
from workflows.operators.hashing import buckets_of, combined, hash_series
from workflows.operators.per_column import CodesOut, PerColumn, VectorsOut
from workflows.operators.vocabularies import fit_vocabulary, lookup

NULL = 1
UNSEEN = 2
FIRST_KNOWN = 3


class Codes(Categorify):
    """`Categorify`, given only what it can take.

    Stock, a frame whose rows are all null raises IndexError, integers with a null lose their last digits or raise, an
    empty frame raises, and a vocabulary without a value fails later, elsewhere. Nulls are code 1 here without being
    looked up.

    Parameters
    ----------
    column
        The raw column, for messages.
    hash_buckets
        What would be `UNSEEN` has one of so many codes, which follow those of the vocabulary.
    """

    def __init__(self, column: str, hash_buckets: int | None = None, **options: Any) -> None:
        super().__init__(dtype=np.int64, **options)
        self.column, self.hash_buckets = column, hash_buckets

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Any:
        if isinstance(ddf._meta, pd.DataFrame):
            return self._fit_pandas(col_selector.names, ddf)
        counts = {name: ddf[name].map_partitions(counts_of_values).sum() for name in col_selector.names}
        return {"present": counts, "categories": super().fit(col_selector, ddf)}

    def _fit_pandas(self, names: Sequence[str], ddf: Any) -> Any:
        """Return the same vocabulary as stock, see `workflows.operators.vocabularies`."""
        present, categories = {}, {}
        for name in names:
            options = self._create_fit_options_from_columns([name])
            directory = Path(self.out_path) / options.stat_name
            directory.mkdir(parents=True, exist_ok=True)
            present[name], categories[name] = fit_vocabulary(ddf, name, str(directory), options)
        return {"present": present, "categories": categories}

    def fit_finalize(self, dask_stats: Any) -> None:
        if not sum(dask_stats["present"].values()):
            raise DataError(
                f"column {self.column!r}: nothing to learn from in the training rows; leave the feature out"
            )
        super().fit_finalize(dask_stats["categories"])

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        frame = df if isinstance(df, pd.DataFrame) else df.reset_index(drop=True)
        out = {name: self._encoded(name, frame[[name]]) for name in col_selector.names}
        return type(df)(out)

    def vocabulary_of(self, name: str) -> tuple[str, str]:
        """Return the Parquet file with the known values of a feature, and its column."""
        stored = self.storage_name.get(name, name)
        return self.categories[stored], stored

    def _encoded(self, name: str, df: Any) -> Any:
        if isinstance(df, pd.DataFrame):
            return self.codes_of(name, df[name])
        present = df[name].notna()
        known = df[present].reset_index(drop=True)
        if not len(known):
            return present.astype("int64") + NULL
        encoded = super().transform(ColumnSelector([name]), known)[name]
        if self.hash_buckets:
            encoded = _rehashed(encoded, known[name], self.first_bucket(name), self.hash_buckets)
        if len(known) == len(df):
            return encoded
        codes = present.astype("int64") * 0 + NULL
        codes[present] = encoded.values
        return codes

    def codes_of(self, name: str, values: pd.Series) -> pd.Series:
        """Return the codes of a feature's values; the same as stock, see `workflows.operators.vocabularies`."""
        codes = pd.Series(lookup(*self.vocabulary_of(name)).codes(values), index=values.index)
        return _rehashed(codes, values, self.first_bucket(name), self.hash_buckets) if self.hash_buckets else codes

    def first_bucket(self, name: str) -> int:
        """Return the code of a feature's first hash bucket."""
        return FIRST_KNOWN + int(pq.read_metadata(self.vocabulary_of(name)[0]).num_rows)


class ListCodes(Codes):
    """`Codes` of clean lists (`CleanLists`)."""

    def _encoded(self, name: str, df: Any) -> Any:
        if not counts_of_values(df[name])[0]:
            return df[name]
        flat = flatten_list_column(df[name])
        return encode_list_column(df[name], super()._encoded(name, flat).values, dtype=np.int64)


class SharedCodes(ListCodes):
    """One vocabulary of several columns, of single values or of clean lists."""

    def __init__(self, lists: dict[str, bool], vocabulary: str, **options: Any) -> None:
        """Take the columns' names, each with whether it holds lists."""
        super().__init__(**options)
        self.lists, self.shared = lists, f"vocabulary.{vocabulary}"
        self.storage_name = dict.fromkeys(lists, self.shared)

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Any:
        together = ddf.map_partitions(_stacked, list(col_selector.names), self.shared)
        return super().fit(ColumnSelector([self.shared]), together)

    def _encoded(self, name: str, df: Any) -> Any:
        return super()._encoded(name, df) if self.lists.get(name) else Codes._encoded(self, name, df)


class HashCodes(CodesOut, PerColumn, Operator):
    """Values, or clean lists of them, to the code of the bucket that their hash falls into; null is 1."""

    def __init__(self, buckets: int, lists: bool = False) -> None:
        super().__init__()
        self.buckets, self.lists = buckets, lists

    def _column(self, name: str, values: Any) -> Any:
        fresh = values.reset_index(drop=True)
        return self._of_lists(fresh) if self.lists else self._of_values(fresh)

    def _of_lists(self, values: Any) -> Any:
        if not counts_of_values(values)[0]:
            return values
        flat = flatten_list_column(values)
        return encode_list_column(values, self._of_values(flat[flat.columns[0]]).values, dtype=np.int64)

    def _of_values(self, values: Any) -> Any:
        host = on_host(values)
        present = host.notna().to_numpy(bool)
        codes = np.full(len(host), NULL, dtype=np.int64)
        codes[present] = buckets_of(hash_series(host[present]), self.buckets) + FIRST_KNOWN
        return type(values)(codes)


class CrossKeys(Operator):
    """The values of several columns to one key, a 64-bit hash; null where one of them is."""

    def __init__(self, name: str, columns: Sequence[str], edges: dict[str, tuple[float, ...]]) -> None:
        super().__init__()
        self.name, self.columns, self.edges = name, tuple(columns), edges

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        hosts = [on_host(df[column]).reset_index(drop=True) for column in self.columns]
        present = np.logical_and.reduce([host.notna().to_numpy(bool) for host in hosts])
        codes = [self._whole(column, host[present]) for column, host in zip(self.columns, hosts, strict=True)]
        keys = np.zeros(len(present), dtype=np.int64)
        keys[present] = combined([hash_series(values) for values in codes])
        series = pd.Series(keys, dtype="Int64")
        series[~present] = pd.NA
        return type(df)({self.name: series})

    def _whole(self, column: str, values: pd.Series) -> pd.Series:
        """Return what is hashed of a column: the values themselves, or their buckets."""
        if column not in self.edges:
            return values
        edges = np.array(self.edges[column], dtype=np.float64)
        return pd.Series(edges.searchsorted(values.to_numpy(np.float64), side="right").astype(np.int64))

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {self.name: list(self.columns)}

    @property
    def output_dtype(self) -> type:
        return np.int64


class KeyedCodes(CodesOut, PerColumn, Operator):
    """Values to the codes of a given vocabulary: null 1, others than the given 2, these from 3 in their order."""

    def __init__(self, values: Any) -> None:
        super().__init__()
        self.values = pd.Index(values)

    def _column(self, name: str, values: Any) -> Any:
        host = on_host(values)
        codes = self.values.get_indexer(pd.Index(host.dropna().to_numpy(str(self.values.dtype))))
        every = np.full(len(host), NULL, dtype=np.int64)
        every[host.notna().to_numpy(bool)] = np.where(codes < 0, UNSEEN, codes + FIRST_KNOWN)
        return type(values)(every, index=values.index)


class Lookup(VectorsOut, KeyedCodes):
    """Values to the rows of a table by code, float32."""

    def __init__(self, values: Any, table: Any, moments: Any) -> None:
        super().__init__(values)
        self.table, self.moments = table, moments

    def _column(self, name: str, values: Any) -> Any:
        codes = on_host(super()._column(name, values)).to_numpy()
        return of_lists(values, list(self.table[codes]))


def _rehashed(codes: Any, values: Any, first: int, buckets: int) -> Any:
    """Return codes with those of unseen values replaced by `first` + their bucket."""
    unseen = on_host(codes).to_numpy() == UNSEEN
    if not unseen.any():
        return codes
    hashed = on_host(codes).to_numpy(np.int64, copy=True)
    hashed[unseen] = buckets_of(hash_series(on_host(values)[unseen]), buckets) + first
    return type(codes)(hashed)


def _stacked(df: Any, columns: list[str], name: str) -> Any:
    """Return one column of all values of several, those of lists one by one."""
    flat = [flatten_list_column(df[column])[column] if is_lists(df[column]) else df[column] for column in columns]
    host = pd.concat([on_host(values).dropna() for values in flat], ignore_index=True)
    return type(df)({name: host})
