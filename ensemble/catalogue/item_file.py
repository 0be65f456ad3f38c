"""Reads files of items (Parquet, CSV, JSON lines) with the columns and types of a release."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.release.columns import is_null
from ensemble.release.item_columns import Kind
from ensemble.serving.files.parameters import is_utf8
from workflows.columns import Columns
from workflows.errors import DataError

SEPARATOR = "|"
"""Stands between the entries of a list in a CSV file: `Action|Comedy`."""
_EXPECTED = {"int64": "an integer of 64 bits", "float64": "a finite number", "string": "text", "bool": "true or false"}
_NO_ID = -(2**63)


def read_table(path: Path, kinds: Mapping[str, Kind], required: list[str]) -> pd.DataFrame:
    """Read a file of items: .parquet, .csv or .jsonl; return the columns that it has, typed, rows 0 to n - 1.

    In a CSV file an empty field is a null, and `|` separates the entries of a list. Raise DataError, which names file,
    column and row, if the file is not readable, a column is missing or unknown, a value is of another type than in
    `kinds`, or an id is null or duplicated.
    """
    frame, is_text = _read(path)
    names = [str(name) for name in frame]
    for name in required:
        if name not in names:
            raise DataError(f"{path}: column '{name}' is missing; the release needs {', '.join(required)}")
    for name in names:
        if name not in kinds:
            raise DataError(
                f"{path}: column '{name}' is unknown; the release has {', '.join(kinds)}; remove or rename it"
            )
    table = pd.DataFrame({name: _typed(path, name, frame[name], kinds[name], is_text) for name in names})
    _check_ids(path, table[Columns.Item])
    return table


def read_ids(path: Path, kind: Kind) -> pd.Series:
    """Read the `item_id` column of a file and ignore the others; raises DataError as `read_table` does."""
    frame, is_text = _read(path)
    if Columns.Item not in frame:
        raise DataError(f"{path}: column '{Columns.Item}' is missing")
    ids = _typed(path, Columns.Item, frame[Columns.Item], kind, is_text)
    _check_ids(path, ids)
    return ids


def ids_of(texts: list[str], kind: Kind) -> pd.Series:
    """Return item ids typed on a command line; raise DataError for a wrong type or a duplicate."""
    place = Path("item ids")
    ids = _typed(place, Columns.Item, pd.Series(texts, dtype=object), kind, True)
    _check_ids(place, ids)
    return ids


def _read(path: Path) -> tuple[pd.DataFrame, bool]:
    """Return the columns of a file as they are, and whether every value is text still to be parsed."""
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        ".csv": lambda place: pd.read_csv(
            place, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig"
        ),
        ".jsonl": _json_lines,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a file ending in {', '.join(readers)}")
    try:
        frame = reader(path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # of pandas and pyarrow, in hierarchies of their own
        raise DataError(f"{path}: not readable as {path.suffix}: {str(error).splitlines()[0]}") from None
    if not len(frame):
        raise DataError(f"{path}: has no rows; expected at least one item")
    if not frame.columns.is_unique:
        raise DataError(f"{path}: column '{frame.columns[frame.columns.duplicated()][0]}' is there twice")
    return frame.reset_index(drop=True), path.suffix.lower() == ".csv"


def _json_lines(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}: line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f'{path}: line {number}: expected an object such as {{"item_id": 7}}, got {line[:80]}')
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def _typed(path: Path, name: str, values: pd.Series, kind: Kind, is_text: bool) -> pd.Series:
    cells = [_cell(value, kind, is_text) for value in values]
    for row, (cell, value) in enumerate(zip(cells, values, strict=True)):
        if cell is _WRONG:
            expected = f"a list, each entry {_EXPECTED[kind.dtype]}" if kind.is_list else _EXPECTED[kind.dtype]
            raise DataError(
                f"{path}: column '{name}', row {row}: got {str(value)[:80]!r}, expected {expected} or nothing"
            )
    if kind.is_list or kind.dtype == "string" or (kind.dtype != "float64" and None in cells):
        return pd.Series(cells, dtype=object)
    return pd.Series(cells, dtype=kind.dtype)


_WRONG = object()


def _cell(value: Any, kind: Kind, is_text: bool) -> Any:
    """Convert a value to the release's type: None for a null, `_WRONG` for another type."""
    if not kind.is_list:
        return _value(value, kind.dtype, is_text)
    if is_text and isinstance(value, str):
        value = [entry.strip() for entry in value.split(SEPARATOR) if entry.strip()]
    if isinstance(value, (list, tuple, np.ndarray)):
        entries = [_value(entry, kind.dtype, is_text) for entry in value]
        return _WRONG if _WRONG in entries else [entry for entry in entries if entry is not None]
    return [] if is_null(value) else _WRONG


def _value(value: Any, dtype: str, is_text: bool) -> Any:
    if is_null(value):
        return None
    if dtype == "string":
        return value if is_utf8(value) else _WRONG
    if isinstance(value, str) and is_text:
        value = _parsed(value, dtype)
    if dtype == "bool":
        return bool(value) if isinstance(value, (bool, np.bool_)) else _WRONG
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return _WRONG
    if dtype == "float64":
        return _number(value)
    whole = abs(value) < 2**64 and int(value) == value and _NO_ID < value < 2**63
    return int(value) if whole else _WRONG


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except OverflowError:  # an integer beyond float64
        return _WRONG
    return number if math.isfinite(number) else _WRONG


def _parsed(text: str, dtype: str) -> Any:
    """Parse the text of a CSV field; return the text itself if that fails."""
    try:
        if dtype == "bool":
            return {"true": True, "false": False}[text.lower()]
        return int(text) if dtype == "int64" else float(text)
    except (ValueError, KeyError):
        return text


def _check_ids(path: Path, ids: pd.Series) -> None:
    for bad, what in ((ids.isna() | (ids == ""), "null; give the item an id"), (ids.duplicated(), "there twice")):
        if bad.any():
            row = int(np.flatnonzero(bad.to_numpy())[0])
            raise DataError(f"{path}: column '{Columns.Item}', row {row}: {ids.iloc[row]!r} is {what}")
