"""Vocabularies of pandas columns at the speed of Arrow: values counted, and looked up.

What NVTabular's `Categorify` does on the CPU with a pandas group-by per part, a tree of merges and a join per part. The
order and the file are NVTabular's own; a property test holds fitting and looking up equal to it (`tests/congruence`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from dask.delayed import delayed
from nvtabular.ops.categorify import FitOptions, _write_uniques

from workflows.tables.store import shared_index

_Int64 = npt.NDArray[np.int64]
_SPLIT_EVERY: Final = 8
_DENSE: Final = 8
"""Integers are looked up in a table of every number between the least and the largest if it has at most so many places
for each of them."""


def fit_vocabulary(frames: Any, name: str, directory: str, options: FitOptions) -> Any:
    """Return, delayed, (how many values there are, where their vocabulary lies) of a column of a Dask frame.

    `options` are those of `Categorify`, whose function orders the values and writes the file: by falling frequency, and
    of equal frequency in an order that depends on values and frequencies alone.
    """
    counts = [delayed(count_values)(part, name) for part in frames[[name]].to_delayed(optimize_graph=False)]
    while len(counts) > 1:
        groups = [counts[first : first + _SPLIT_EVERY] for first in range(0, len(counts), _SPLIT_EVERY)]
        counts = [delayed(merge_counts)(group) for group in groups]
    return delayed(_write, nout=2)(counts[0], name, frames[name].dtype, directory, options)


def count_values(frame: pd.DataFrame, name: str) -> pa.Table:
    """Return the distinct values of a column, those of lists one by one, and how often each occurs; nulls left out."""
    if isinstance(frame[name].dtype, pd.CategoricalDtype):
        categories, codes = frame[name].cat.categories, frame[name].cat.codes.to_numpy()
        occurring = np.bincount(codes[codes >= 0], minlength=len(categories))
        seen = np.flatnonzero(occurring)
        return pa.table({"values": pa.array(categories.take(seen), pa.string()), "counts": occurring[seen]})
    values = pa.array(frame[name], from_pandas=True)
    if pa.types.is_list(values.type):
        values = values.flatten()
    counted = pc.value_counts(values.drop_null())
    return pa.table({"values": counted.field(0), "counts": counted.field(1)})


def merge_counts(tables: list[pa.Table]) -> pa.Table:
    """Return counts of the same values added up."""
    typed = [table for table in tables if not pa.types.is_null(table["values"].type)]
    if not typed:
        return tables[0]
    merged = pa.concat_tables(typed).group_by("values", use_threads=False).aggregate([("counts", "sum")])
    return pa.table({"values": merged["values"], "counts": merged["counts_sum"]})


def _write(counts: pa.Table, name: str, dtype: Any, directory: str, options: FitOptions) -> tuple[int, str]:
    values = counts["values"].to_pandas()
    if isinstance(dtype, pd.Int64Dtype):
        values = values.astype("Int64")
    frame = pd.DataFrame({name: values, f"{name}_size": counts["counts"].to_pandas()})
    path = _write_uniques([frame], directory, options.col_groups[0], options, cpu=True) if len(frame) else ""
    return int(frame[f"{name}_size"].sum()), path


def lookup(path: str, column: str) -> Lookup:
    """Return the lookup of a vocabulary's file; a process reads a file once."""
    stated = Path(path).stat()
    return _lookup(path, column, (stated.st_ino, stated.st_mtime_ns))


class Lookup:
    """A vocabulary, the first of whose codes is `first`: null is `null`, and what is not in it `unseen`."""

    def __init__(self, values: pd.Series, null: int = 1, unseen: int = 2, first: int = 3) -> None:
        self._null, self._unseen, self._first = null, unseen, first
        self._numbers: npt.NDArray[np.int64] | None = None
        self._table: _Int64 | None = None
        if not pd.api.types.is_integer_dtype(values.dtype):
            self._text = pa.array(values, type=pa.large_string())
            return
        self._numbers = values.to_numpy(dtype=np.int64)
        self._least = int(self._numbers.min()) if len(values) else 0
        span = int(self._numbers.max()) - self._least + 1 if len(values) else 0
        if span <= _DENSE * len(values):
            self._table = np.full(span + 1, unseen, dtype=np.int64)  # one more, for what lies outside
            self._table[self._numbers - self._least] = np.arange(len(values)) + first
        else:
            self._index = shared_index(self._numbers)

    def codes(self, values: pd.Series) -> _Int64:
        """Return the codes of integers, or of text, int64 [n]."""
        if isinstance(values.dtype, pd.CategoricalDtype):
            of_categories = self._of_text(pd.Series(values.cat.categories, dtype=object))
            return np.append(of_categories, self._null)[values.cat.codes.to_numpy()]
        missing = values.isna().to_numpy(bool)
        if self._numbers is None:
            return self._of_text(values)
        codes = self._of_numbers(
            values.to_numpy(dtype=np.int64, na_value=0) if missing.any() else values.to_numpy(np.int64)
        )
        codes[missing] = self._null
        return codes

    def _of_numbers(self, numbers: _Int64) -> _Int64:
        if self._table is None:
            return self._numbered(self._index.get_indexer(numbers))
        # Modulo 2**64, what is less than the least number is far beyond the largest one.
        places = numbers.view(np.uint64) - np.int64(self._least).view(np.uint64)
        return self._table[np.minimum(places, np.uint64(len(self._table) - 1)).view(np.int64)]

    def _of_text(self, values: pd.Series) -> _Int64:
        encoded = pa.array(values, type=pa.large_string(), from_pandas=True).dictionary_encode()
        positions = pc.index_in(encoded.dictionary, value_set=self._text).fill_null(-1).to_numpy()
        codes = np.append(self._numbered(positions), self._null)
        return codes[encoded.indices.fill_null(len(codes) - 1).to_numpy()]

    def _numbered(self, places: npt.NDArray[np.integer]) -> _Int64:
        """Return codes of places in the vocabulary, where a negative one is none."""
        return np.where(places < 0, self._unseen, places.astype(np.int64) + self._first)


@lru_cache(maxsize=64)
def _lookup(path: str, column: str, version: tuple[int, int]) -> Lookup:
    return Lookup(pd.read_parquet(path)[column])
