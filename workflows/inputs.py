"""What the features are made of: the recipe's plan, checked against the raw columns, and their canonical form."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from msgspec import Struct

from workflows.columns import Columns
from workflows.config import (
    Bucketized,
    Categorical,
    ColumnFeature,
    Continuous,
    Feature,
    FeatureSide,
    MultiHot,
    Sequence,
    Text,
)
from workflows.diagnostics import DataError, RecipeError

Dtype = Literal["int64", "float64", "string"]
HISTORY = "history"
"""The pseudo-column of the user's past interactions, and the feature made of it."""
HISTORY_AGE = "history_age"
"""The seconds that have passed since each of them: comes with `history`."""
FIRST_ITEM = 3
"""An item's code in a history is its `item_index` + 3; 2 is an item that the catalogue does not hold, 0 padding."""


class FeatureSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one feature looks like to a tower."""

    name: str
    source: str
    """The raw column."""
    kind: Literal["categorical", "continuous", "list", "sequence"]
    """A `sequence` is two inputs of the tower: `name`, the codes, and `history_age`, float32 of the same shape."""
    dtype: Literal["int64", "float32"]
    cardinality: int
    """Codes are below this; 0 for continuous."""
    max_length: int
    """Width of a list or sequence, padded on the right with 0; 0 for a scalar."""


class Planned(NamedTuple):
    """One feature of the recipe: `output` is made from the raw `column` as `feature` says."""

    output: str
    column: str
    feature: ColumnFeature

    @property
    def kind(self) -> str:
        return str(self.feature.__struct_config__.tag)


class Input(NamedTuple):
    """A raw column in canonical form: nullable int64, float64 (NaN is null) or str, one value or a list per row."""

    name: str
    dtype: Dtype
    list: bool


def plan(side: FeatureSide, section: str) -> list[Planned]:
    """Return one entry per feature of a raw column, named after its column, or `<column>_<kind>` where it has several.

    The history is none of them: see `history_of`.

    Raises
    ------
    RecipeError
        There is no feature, two features have one name, a feature's options exclude each other, or `history` is not
        what it must be: one feature of kind `sequence`, beside others.
    """
    planned: list[Planned] = []
    for column, given in side.features.items():
        listed = given if isinstance(given, list) else [given]
        features = [feature for feature in listed if not isinstance(feature, Sequence)]
        for feature in features:
            single = Planned(column, column, feature)
            suffix = single.kind.replace("-", "_")
            planned.append(single if len(features) == 1 else single._replace(output=f"{column}_{suffix}"))
    _check_history(side, planned, section)
    names = [entry.output for entry in planned]
    if not names:
        raise RecipeError(f"[{section}] is empty; name at least one raw column")
    for entry in planned:
        _check_options(entry, names, section)
    return planned


def history_of(side: FeatureSide) -> Sequence | None:
    """Return the history that a side asks for, if it does."""
    return next((feature for feature in _features(side, HISTORY) if isinstance(feature, Sequence)), None)


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
        if entry.column not in frame.columns:
            there = ", ".join(map(str, frame.columns))
            raise RecipeError(f"[{section}] {entry.column}: no such column; there are: {there}")
        kinds.setdefault(entry.column, []).append(entry)
    return [_describe_column(frame[column], entries, section) for column, entries in kinds.items()]


def canonical(frame: pd.DataFrame, inputs: list[Input]) -> pd.DataFrame:
    """Return the columns of `inputs` with a fresh index: Int64, float64, or objects (str, lists, None for null).

    Raises
    ------
    DataError
        A value is not of the column's type; names column, row and value.
    """
    columns = {entry.name: _canonical_column(frame[entry.name].reset_index(drop=True), entry) for entry in inputs}
    return pd.DataFrame(columns)


def _check_options(entry: Planned, names: list[str], section: str) -> None:
    if names.count(entry.output) > 1:
        raise RecipeError(f"[{section}] {entry.column}: two features would be called {entry.output!r}; remove one")
    if isinstance(entry.feature, Categorical) and entry.feature.min_frequency and entry.feature.max_size:
        raise RecipeError(
            f"[{section}] {entry.column}: min_frequency and max_size cannot be combined; set one of the two"
        )


def _features(side: FeatureSide, column: str) -> list[Feature]:
    given = side.features.get(column, [])
    return given if isinstance(given, list) else [given]


def _check_history(side: FeatureSide, planned: list[Planned], section: str) -> None:
    """The pseudo-column `history` is of kind `sequence`, on the query's side, once; and nothing else is."""
    for column in side.features:
        wrong = [one for one in _features(side, column) if isinstance(one, Sequence) != (column == HISTORY)]
        if wrong or (column == HISTORY and section != "query.features"):
            raise RecipeError(
                f"[{section}] {column}: {HISTORY!r} is the query's sequence and nothing else is; write "
                f'{HISTORY} = {{ kind = "sequence" }} under [query.features], and rename a raw column of that name'
            )
    if len(_features(side, HISTORY)) > 1:
        raise RecipeError(f"[{section}] {HISTORY}: there can be one sequence; remove the others")
    if history_of(side) and not planned:
        raise RecipeError(f"[{section}] has nothing but {HISTORY}; add at least one raw column, such as user_id")
    if history_of(side) and any(entry.output == HISTORY_AGE for entry in planned):
        raise RecipeError(f"[{section}] {HISTORY_AGE}: {HISTORY} makes a feature of that name; rename the raw column")


def _describe_column(series: pd.Series, entries: list[Planned], section: str) -> Input:
    found = _found_type(series)
    for entry in entries:
        wanted = _accepts(entry.feature)
        if found.removesuffix(" (whole numbers)") not in wanted and found not in wanted:
            needs = f"kind {entry.kind!r} needs {' or '.join(wanted)}"
            raise RecipeError(f"[{section}] {entry.column}: {needs}, but the column holds {found}")
    if found.startswith("lists of "):
        return Input(str(series.name), "string" if found.endswith("strings") else "int64", True)
    if found == "strings":
        return Input(str(series.name), "string", False)
    # pandas turns integers into floats as soon as one is null; an id is an integer all the same.
    integral = found == "floats (whole numbers)" and any(isinstance(e.feature, Categorical) for e in entries)
    return Input(str(series.name), "int64" if found == "integers" or integral else "float64", False)


def _accepts(feature: Feature) -> tuple[str, ...]:
    if isinstance(feature, (Continuous, Bucketized)):
        return ("integers", "floats")
    if isinstance(feature, MultiHot):
        return ("lists of strings", "lists of integers")
    if isinstance(feature, Text):
        return ("strings",)
    return ("integers", "strings", "floats (whole numbers)")


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
        return f"lists of {_words(pd.Series([value for row in present for value in row], dtype=object))}"
    return _words(present)


def _words(values: pd.Series) -> str:
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    return {"string": "strings", "integer": "integers", "boolean": "integers", "empty": "nothing but nulls"}.get(
        inferred, f"values of type {inferred}"
    )


def _canonical_column(series: pd.Series, entry: Input) -> pd.Series:
    try:
        if entry.list:
            return pd.Series([_canonical_list(row, entry) for row in series], dtype=object)
        if entry.dtype == "string":
            values = series.astype(object)
            return values.where(values.notna(), None).map(_checked_text, na_action="ignore")
        if entry.dtype == "int64":
            return series.astype("Int64")
        return series.astype("float64")
    except (TypeError, ValueError) as error:
        expected = f"{'lists of ' if entry.list else ''}{entry.dtype}"
        raise DataError(f"column {entry.name!r}: expected {expected}: {error}") from None


def _canonical_list(row: Any, entry: Input) -> list[Any] | None:
    if not isinstance(row, (list, tuple, np.ndarray)):
        if row is None or pd.isna(row):
            return None
        raise TypeError(f"got {row!r}")
    if entry.dtype == "int64":
        return [None if pd.isna(value) else int(value) for value in row]
    return [None if value is None else _checked_text(value) for value in row]


def _checked_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {value!r}")
    return value
