"""Columns and ids as .npy files: numbers as they are, strings as one UTF-8 blob and offsets. Never object arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .release import Sealed
from .transform import Column


def pack_strings(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the values' UTF-8 bytes, uint8 [bytes], and offsets, int64 [n + 1]."""
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets


def unpack_strings(blob: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the strings as an object array of `str` [n]."""
    data, bounds = blob.tobytes(), offsets.tolist()
    values = np.empty(len(bounds) - 1, dtype=object)
    values[:] = [data[start:end].decode("utf-8") for start, end in pairwise(bounds)]
    return values


def read_values(release: Sealed, stem: str, dtype: str) -> np.ndarray:
    """Read `<stem>.npy`, or `<stem>.utf8.npy` and `<stem>.offsets.npy` where `dtype` is "string"."""
    if dtype == "string":
        return unpack_strings(release.array(f"{stem}.utf8.npy"), release.array(f"{stem}.offsets.npy"))
    return release.array(f"{stem}.npy")


def read_column(release: Sealed, stem: str, dtype: str, is_list: bool) -> Column:
    """Read a column: its values and, where the files exist, which of them are missing and where lists begin."""
    missing = release.array(f"{stem}.missing.npy") if release.has(f"{stem}.missing.npy") else None
    offsets = release.array(f"{stem}.rows.npy") if is_list else None
    return Column(read_values(release, stem, dtype), missing, offsets)


def null_column(rows: int, dtype: str, is_list: bool) -> Column:
    """Return a column of nulls (of empty lists) with `rows` rows."""
    size = 0 if is_list else rows
    values = np.full(size, "", dtype=object) if dtype == "string" else np.zeros(size, dtype=dtype)
    missing = None if is_list else np.ones(rows, dtype=bool)
    return Column(values, missing, np.zeros(rows + 1, dtype=np.int64) if is_list else None)


def take(column: Column, rows: np.ndarray, dtype: str) -> Column:
    """Return the column's values at `rows`, int64 [n]; a row of -1 is null, or an empty list."""
    if column.offsets is not None:
        return _take_lists(column, column.offsets, rows)
    if not len(column.values):
        return null_column(len(rows), dtype, False)
    unknown = rows < 0
    missing = unknown if column.missing is None else unknown | column.missing[rows]
    return Column(column.values[rows], missing)


def _take_lists(column: Column, offsets: np.ndarray, rows: np.ndarray) -> Column:
    index, bounds = take_ranges(offsets, rows)
    missing = None if column.missing is None else column.missing[index]
    return Column(column.values[index], missing, bounds)


def take_ranges(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in the CSR ranges `rows` (-1: empty), range after range, and their bounds, int64 [n + 1]."""
    known = rows >= 0
    starts = np.where(known, offsets[rows], 0)
    lengths = np.where(known, offsets[rows + 1], 0) - starts
    bounds = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    shift = np.repeat(starts - bounds[:-1], lengths)
    return np.arange(bounds[-1]) + shift, bounds
