"""The raw columns of the items as a table, stored like the users' columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemble.release.columns import save_column
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.item_columns import ARRAYS, FILE, read_columns, stated_columns
from ensemble.serving.files.release import Release, Sealed
from ensemble.serving.query.transform import Column
from workflows.columns import Columns
from workflows.files import json_bytes


class Kind(NamedTuple):
    """The type of a column."""

    dtype: str
    """int64, float64, string or bool."""
    is_list: bool


def kind_of(column: pd.Series) -> Kind | None:
    """Return the kind of a column, text if it is all null; None for types that a release cannot hold."""
    for dtype, is_kind in (
        ("bool", pd.api.types.is_bool_dtype),
        ("int64", pd.api.types.is_integer_dtype),
        ("float64", pd.api.types.is_float_dtype),
    ):
        if is_kind(column):
            return Kind(dtype, False)
    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return None
    lists = [cell for cell in column if isinstance(cell, (list, tuple, np.ndarray))]
    values: Iterator[object] = (entry for cell in lists for entry in cell) if lists else iter(column)
    first = next((value for value in values if value is not None and value == value), "")
    kinds = {"bool": (bool, np.bool_), "int64": (int, np.integer), "float64": (float, np.floating), "string": (str,)}
    dtypes = [name for name, types in kinds.items() if isinstance(first, types)]
    return Kind(dtypes[0], bool(lists)) if dtypes else None


def kinds_in(table: pd.DataFrame) -> dict[str, Kind]:
    """Return the kinds of a table's columns, without those that a release cannot hold."""
    kinds = {str(name): kind_of(table[name]) for name in table}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def kinds_of(release: Release) -> dict[str, Kind]:
    """Return the kind of every column of a release's item table."""
    columns = stated_columns(release, release.header("items/vectors.npy").shape[0])
    stated = {str(column["name"]): Kind(column["dtype"], column["list"]) for column in columns}
    return {Columns.Item: Kind(release.manifest["id_dtype"][Columns.Item], False), **stated}


def write_columns(table: pd.DataFrame, kinds: Mapping[str, Kind], out: Path) -> None:
    """Write the columns of these kinds into an unfinished release or change, which already has the ids."""
    own = {name: kind for name, kind in kinds.items() if name != Columns.Item}
    columns = [{"name": name, "dtype": kind.dtype, "list": kind.is_list} for name, kind in own.items()]
    (out / ARRAYS).parent.mkdir()
    for number, described in enumerate(columns):
        save_column(table[str(described["name"])], out / ARRAYS.format(number), described)
    (out / FILE).write_bytes(json_bytes({"format": 1, "rows": len(table), "columns": columns}))


def items_of(release: Release) -> pd.DataFrame:
    """Read the item table of a release, one row per vector; raise InvalidRelease if an array does not fit."""
    return read_items(release, release.header("items/vectors.npy").shape[0], release.manifest["id_dtype"][Columns.Item])


def read_items(sealed: Sealed, rows: int, id_dtype: str) -> pd.DataFrame:
    """Read the item table, `rows` rows, of a release or a change; raises as `items_of` does."""
    columns = {Columns.Item: pd.Series(read_values(sealed, "items/ids", id_dtype))}
    columns.update((name, _series(cells)) for name, cells in read_columns(sealed, rows))
    return pd.DataFrame(columns)


def _series(column: Column) -> pd.Series:
    """Convert a column to pandas: None or NaN for missing values, lists for list columns."""
    values: Any = np.array(column.values[:])
    if column.missing is not None:
        floats = values.dtype == np.float64
        values = values.astype(np.float64 if floats else object)
        values[column.missing] = np.nan if floats else None
    if column.offsets is None:
        return pd.Series(values)
    bounds = column.offsets.tolist()
    return pd.Series([values[start:end].tolist() for start, end in pairwise(bounds)], dtype=object)
