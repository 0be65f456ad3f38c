"""The item columns that requests can filter by, as arrays for `ensemble.serving.search.attributes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.release.columns import is_null, save, save_values
from workflows.columns import Columns
from workflows.files import json_bytes

DISTINCT = 1000
"""Text with more different values than this is left out if they are also more than half as many as the entries: titles
and descriptions name one item each, and nobody filters by them."""


def write_attributes(catalogue: pd.DataFrame, items: Path, every: bool = False) -> None:
    """Write `attributes.json` and `attributes/` of a release's folder `items`, one row per row of the catalogue.

    Text, lists of text or integers and booleans become tags, numbers stay numbers (NaN: missing). The id, dates and
    text that names single items are left out, unless `every` text column is kept; `attributes.json` records why.
    """
    (items / "attributes").mkdir()
    described: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name in (str(column) for column in catalogue if column != Columns.Item):
        column, stem = catalogue[name], items / "attributes" / str(len(described))
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            save(stem, column.to_numpy(dtype=np.float64, na_value=np.nan))
            described.append({"name": name, "kind": "number"})
            continue
        reason = _write_tags(column, stem, every)
        if reason is None:
            described.append({"name": name, "kind": "tags"})
        else:
            left_out[name] = reason
    document = {"format": 1, "items": len(catalogue), "attributes": described, "left_out": left_out}
    (items / "attributes.json").write_bytes(json_bytes(document))


def _write_tags(column: pd.Series, stem: Path, every: bool) -> str | None:
    """Write a column's values and the items of each, in both directions; or return why it is left out."""
    rows, entries = _entries(column)
    texts = [_text(entry) for entry in entries]
    if None in texts:
        return f"holds a {type(entries[texts.index(None)]).__name__}"
    codes, values = pd.factorize(pd.Series(texts, dtype=object), sort=True)
    if not every and len(values) > DISTINCT and 2 * len(values) > len(texts):
        return f"{len(values)} different values in {len(texts)} entries"
    pairs = np.unique(rows * max(len(values), 1) + codes)  # an item that names a value twice has it once
    rows, codes = np.divmod(pairs, max(len(values), 1))
    save_values(values, stem, "string")
    for name, array in {
        "rows": _bounds(rows, len(column)),
        "codes": codes.astype(np.int32),
        "values": _bounds(codes, len(values)),
        "items": rows[np.argsort(codes, kind="stable")].astype(np.int32),
    }.items():
        save(stem.with_name(f"{stem.name}.{name}"), array)
    return None


def _entries(column: pd.Series) -> tuple[np.ndarray, list[Any]]:
    """Return the row, int64 [m], and the value of every entry that is not null."""
    lists = [_listed(cell) for cell in column]
    rows = np.repeat(np.arange(len(lists)), [len(entries) for entries in lists])
    return rows, [value for entries in lists for value in entries]


def _listed(cell: Any) -> list[Any]:
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [entry for entry in cell if not is_null(entry)]
    return [] if is_null(cell) else [cell]


def _text(value: Any) -> str | None:
    """Return a value as a tag; None for a type that tags cannot have."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, (int, np.integer)) else None


def _bounds(codes: np.ndarray, size: int) -> np.ndarray:
    """Return where the entries of each code begin and end when sorted by code, int64 [size + 1]."""
    return np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=size))]).astype(np.int64)
