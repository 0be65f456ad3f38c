"""Raw columns in canonical form: what the plan needs of them, found in a frame, and cast to it."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from workflows.columns import Columns
from workflows.errors import DataError, RecipeError
from workflows.features.kinds.base import VALUES, VECTORS
from workflows.features.plan import Planned
from workflows.features.pretrained import tables_of

Dtype = Literal["int64", "float64", "string"]
_LOOKED_AT = 100_000
"""Entries of lists; those that come later are checked when they are read."""


class Input(NamedTuple):
    """A raw column in canonical form: nullable int64, float64 (NaN is null) or str, one value or a list per row."""

    name: str
    dtype: Dtype
    list: bool


def describe(frame: pd.DataFrame, planned: list[Planned], section: str, dated: bool = False) -> list[Input]:
    """Return the inputs that `planned` needs, one per raw column, with the types found in `frame`.

    `dated` makes `timestamp` one of them: the query's time, which a history needs.

    Raises
    ------
    RecipeError
        A column does not exist, or its type does not fit the kind of its feature.
    """
    kinds: dict[str, list[Planned]] = {Columns.Timestamp: []} if dated else {}
    for entry in planned:
        for column in entry.columns:
            if column not in frame.columns:
                available = ", ".join(map(str, frame.columns))
                raise RecipeError(f"[{section}] {_place(entry, column)}: no such column; there are: {available}")
            kinds.setdefault(column, []).append(entry)
    inputs = [_describe_column(frame[column], entries, section) for column, entries in kinds.items()]
    by_name = {described.name: described for described in inputs}
    _check_shared(planned, by_name, section)
    _check_keyed(planned, by_name, section)
    return inputs


def canonical(frame: pd.DataFrame, inputs: list[Input], dictionaries: Collection[str] = ()) -> pd.DataFrame:
    """Return the columns of `inputs` with a fresh index: Int64, float64, or objects (str, lists, None for null).

    Parameters
    ----------
    dictionaries
        Columns of text that stay pandas categoricals where they are such.

    Raises
    ------
    DataError
        A value is not of the column's type; names column, row and value.
    """
    columns = {}
    for entry in inputs:
        column = frame[entry.name].reset_index(drop=True)
        keep = entry.name in dictionaries and isinstance(column.dtype, pd.CategoricalDtype)
        columns[entry.name] = column if keep else _canonical_column(column, entry)
    return pd.DataFrame(columns, copy=False)


def _describe_column(series: pd.Series, entries: list[Planned], section: str) -> Input:
    name, column_type = str(series.name), _found_type(series)
    for entry in entries:
        accepted = entry.feature.accepts(name)
        if column_type.removesuffix(" (whole numbers)") not in accepted and column_type not in accepted:
            needs = f"kind {entry.kind!r} needs {' or '.join(accepted)}"
            raise RecipeError(f"[{section}] {_place(entry, name)}: {needs}, but the column holds {column_type}")
    if column_type.startswith("lists of "):
        numbers = any(entry.feature.accepts(name) == VECTORS for entry in entries)
        return Input(name, "string" if column_type.endswith("strings") else "float64" if numbers else "int64", True)
    if column_type == "strings":
        return Input(name, "string", False)
    # pandas turns integers into floats as soon as one is null; an id is an integer all the same.
    integral = column_type == "floats (whole numbers)" and any(
        entry.feature.accepts(name) == VALUES for entry in entries
    )
    return Input(name, "int64" if column_type == "integers" or integral else "float64", False)


def _check_shared(planned: list[Planned], inputs: dict[str, Input], section: str) -> None:
    """Features that share a vocabulary are of one type and agree in how it is made."""
    for entry in planned:
        shared = entry.feature.shared
        for other in planned:
            if not shared or other.feature.shared != shared:
                continue
            if inputs[entry.column].dtype != inputs[other.column].dtype:
                raise RecipeError(
                    f"[{section}] {entry.column} and {other.column} share the vocabulary {shared!r}, but one holds "
                    f"{inputs[entry.column].dtype} and the other {inputs[other.column].dtype}; convert one"
                )
            for option in ("min_frequency", "max_size", "hash_buckets"):
                if getattr(entry.feature, option) != getattr(other.feature, option):
                    raise RecipeError(
                        f"[{section}] {entry.column} and {other.column} share the vocabulary {shared!r} and differ in "
                        f"{option}; set it in both"
                    )


def _check_keyed(planned: list[Planned], inputs: dict[str, Input], section: str) -> None:
    """Pre-trained vectors are read, and their ids are of the column's type: else none would be found."""
    for name, vectors in tables_of(planned):
        column = next(entry.column for entry in planned if entry.output == name)
        theirs = "int64" if vectors.ids.dtype == "int64" else "string"
        if inputs[column].dtype != theirs:
            raise RecipeError(
                f"[{section}] {column}: holds {inputs[column].dtype}, but the ids of its vectors are {theirs}; "
                "convert one of them"
            )


def _place(entry: Planned, column: str) -> str:
    """Return how messages name a column that a feature reads."""
    return column if column == entry.column else f"{entry.column}, {column}"


def _found_type(series: pd.Series) -> str:
    """Name the type of a column in words."""
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_integer_dtype(series.dtype):
        return "integers"
    if pd.api.types.is_float_dtype(series.dtype):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        values = values[~np.isnan(values)]
        whole = bool(np.all((np.abs(values) < 2.0**53) & (values == np.floor(values))))
        return "floats (whole numbers)" if whole else "floats"
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    present = series.dropna()
    if len(present) and isinstance(present.iloc[0], (list, tuple, np.ndarray)):
        some = itertools.islice((value for row in present for value in row if value is not None), _LOOKED_AT)
        return f"lists of {_words(pd.Series(list(some), dtype=object))}"
    return _words(present)


def _words(values: pd.Series) -> str:
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    names = {"string": "strings", "integer": "integers", "boolean": "integers", "empty": "nothing but nulls"}
    names.update({"floating": "floats", "mixed-integer-float": "floats"})
    return names.get(inferred, f"values of type {inferred}")


def _canonical_column(series: pd.Series, entry: Input) -> pd.Series:
    try:
        if entry.list:
            rows = [_canonical_list(row, entry) for row in series]
            # Merlin cannot tell the type of a column whose lists are all empty.
            return pd.Series(rows if any(rows) else [None] * len(rows), dtype=object)
        if entry.dtype == "string":
            return _canonical_text(series.astype(object))
        if entry.dtype == "int64":
            return _canonical_integers(series)
        return series.astype("float64")
    except (TypeError, ValueError) as error:
        expected = f"{'lists of ' if entry.list else ''}{entry.dtype}"
        raise DataError(f"column {entry.name!r}: expected {expected}: {error}") from None


def _canonical_integers(series: pd.Series) -> pd.Series:
    if series.dtype != np.int64:
        return series.astype("Int64")
    # The same, without pandas looking for the nulls that cannot be there.
    return pd.Series(pd.arrays.IntegerArray(series.to_numpy(), np.zeros(len(series), dtype=bool)))


def _canonical_text(values: pd.Series) -> pd.Series:
    missing = values.isna()
    if missing.any():
        values = values.where(~missing, None)
    if pd.api.types.infer_dtype(values, skipna=True) not in ("string", "empty"):
        _checked_text(next(value for value in values if not isinstance(value, (str, type(None)))))
    return values


def _canonical_list(row: Any, entry: Input) -> list[Any] | None:
    if not isinstance(row, (list, tuple, np.ndarray)):
        if row is None or pd.isna(row):
            return None
        raise TypeError(f"got {row!r}")
    if entry.dtype == "float64":
        return [float("nan") if value is None else float(value) for value in row]
    if entry.dtype == "int64":
        return [None if pd.isna(value) else int(value) for value in row]
    return [None if value is None else _checked_text(value) for value in row]


def _checked_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {value!r}")
    return value
