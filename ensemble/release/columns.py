"""Writes table columns, and lookups of ids and values, as the .npy files that `ensemble.serving.files` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.serving.files.arrays import narrowed, pack_strings
from ensemble.serving.files.lookup import DICTIONARY, Strings, build_lookup
from ensemble.serving.names import wrong_column
from workflows.errors import ReleaseError

_BLANK = {"int64": 0, "float64": np.nan, "string": "", "bool": False}


def id_dtype(values: pd.Series) -> str:
    """Return the type of the ids, "int64" or "string"."""
    return "int64" if pd.api.types.is_integer_dtype(values) else "string"


def save_values(values: Any, stem: Path, dtype: str) -> None:
    """Write values without nulls as `<stem>.npy`, or as `<stem>.utf8.npy` and `<stem>.offsets.npy`."""
    if dtype != "string":
        save(stem, np.asarray(values, dtype=dtype))
        return
    blob, offsets = pack_strings([str(value) for value in values])
    save(_with(stem, ".utf8"), blob)
    save(_with(stem, ".offsets"), offsets)


def save_column(values: pd.Series, stem: Path, described: Mapping[str, Any]) -> None:
    """Write a column that may hold nulls or lists; `described` is its entry in the transform's inputs."""
    reason = wrong_column(stem.name)
    if reason:
        raise ReleaseError(f"column {stem.name!r}: {reason}; rename the column")
    if described["list"]:
        offsets, values = entries_of(values)
        save(_with(stem, ".rows"), offsets)
    missing = values.isna().to_numpy(dtype=bool)
    if missing.any():
        save(_with(stem, ".missing"), missing)
    filled = values.astype(object).where(~missing, _BLANK[described["dtype"]])
    save_values(filled.to_numpy(), stem, described["dtype"])


def entries_of(lists: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Return the offsets, int64 [n + 1], and the entries of a column of lists; a null is an empty list."""
    cells = [[] if cell is None or np.ndim(cell) == 0 else list(cell) for cell in lists]
    offsets = np.cumsum([0, *map(len, cells)], dtype=np.int64)
    return offsets, pd.Series([entry for cell in cells for entry in cell], dtype=object)


def is_null(value: Any) -> bool:
    """Return whether a single value of a column is null."""
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and value != value)
    )


def save(stem: Path, array: np.ndarray) -> None:
    """Write one array as `<stem>.npy`."""
    np.save(_with(stem, ".npy"), array, allow_pickle=False)


def write_lookup(stem: Path, least: int = DICTIONARY) -> None:
    """Write `<stem>.order.npy` and `<stem>.starts.npy` for distinct ids, if there are more than `least` of them."""
    offsets_at = _with(stem, ".offsets.npy")
    if offsets_at.exists():
        offsets = narrowed(np.load(offsets_at))
        np.save(offsets_at, offsets)
        ids: Strings | np.ndarray = Strings(np.load(_with(stem, ".utf8.npy"), mmap_mode="r"), offsets)
    else:
        ids = np.load(_with(stem, ".npy"), mmap_mode="r").view(np.ndarray)
    if len(ids) > least:
        lookup = build_lookup(ids)
        save(_with(stem, ".order"), lookup.order)
        save(_with(stem, ".starts"), lookup.starts)


def write_vocabulary_lookups(directory: Path) -> None:
    """Write a lookup beside every large vocabulary of a transform."""
    for place in sorted(directory.glob("*.npy")):
        stem, suffix = place.name.split(".", 1)
        if suffix == "offsets.npy" or (suffix == "npy" and np.load(place, mmap_mode="r").dtype == np.int64):
            write_lookup(directory / stem)


def _with(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)
