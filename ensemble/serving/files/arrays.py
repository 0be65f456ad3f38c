"""Columns and ids as .npy files: numbers as they are, strings as one UTF-8 blob and offsets. Never object arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from ..errors import InvalidRelease
from .lookup import DICTIONARY, Ids, IdTable, Lookup, Strings, are_distinct, finds
from .release import Folder, Release

_NUMBERS: Mapping[str, type] = {"int64": np.int64, "float64": np.float64, "bool": np.bool_}
NO_ID: Mapping[str, Any] = {"int64": -(2**63), "string": ""}
"""What pads lists of ids, and is none itself."""
_BLOCK = 1 << 18
"""Strings whose text is looked at together."""


class Column(NamedTuple):
    """A raw column of a batch. `missing` marks nulls, whose values are ignored."""

    values: np.ndarray
    """int64 [n], float64 [n] (NaN is null too) or an object array [n] of `str` (None is null too). In a list column
    n is the number of entries of all lists."""
    missing: np.ndarray | None = None
    """bool, as long as `values`; None if nothing is null."""
    offsets: np.ndarray | None = None
    """int64 [rows + 1] for a list column: row i holds `values[offsets[i]:offsets[i + 1]]`."""


def pack_strings(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the values' UTF-8 bytes, uint8 [bytes], and offsets, uint32 or, beyond 4 GB, int64 [n + 1]."""
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), narrowed(offsets)


def narrowed(offsets: np.ndarray) -> np.ndarray:
    """Return offsets as uint32 where that holds them."""
    return offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets


def read_values(release: Folder, stem: str, dtype: str) -> np.ndarray:
    """Read `<stem>.npy`, or `<stem>.utf8.npy` and `<stem>.offsets.npy` if `dtype` is "string".

    Raises InvalidRelease: the type is another one, or the strings are not UTF-8.
    """
    values = _mapped(release, stem, dtype)
    return np.array(values.tolist(), dtype=object) if isinstance(values, Strings) else values


def _mapped(release: Folder, stem: str, dtype: str) -> Ids:
    """Map values as `read_values` reads them; strings stay in the file until they are used."""
    if dtype != "string":
        return release.array(f"{stem}.npy", _NUMBERS[dtype])
    blob = release.array(f"{stem}.utf8.npy", np.uint8)
    offsets = release.array(f"{stem}.offsets.npy", np.uint32, np.int64)
    if not is_csr(offsets, len(offsets) - 1, len(blob)):
        raise InvalidRelease(f"{release.path / stem}.offsets.npy: the offsets do not fit the {len(blob)} bytes of text")
    starts = offsets[:-1][offsets[:-1] < len(blob)]
    # Text that is whole between two strings' beginnings, none of them inside a character, is so string by string.
    whole = bool(((blob[starts] & 0xC0) != 0x80).all())
    bounds = [*offsets[:-1:_BLOCK].tolist(), len(blob)]
    try:
        for start, end in pairwise(bounds if whole else []):
            blob[start:end].tobytes().decode("utf-8")
    except UnicodeDecodeError:
        whole = False
    if not whole:
        raise InvalidRelease(f"{release.path / stem}.utf8.npy: holds text that is not UTF-8")
    return Strings(blob, offsets)


def is_csr(bounds: np.ndarray, size: int, entries: int) -> bool:
    """Return whether `bounds` cuts `entries` into `size` consecutive ranges."""
    if bounds.shape != (size + 1,) or not len(bounds) or bounds[0] != 0 or bounds[-1] != entries:
        return False
    return bool((bounds[:-1] <= bounds[1:]).all())


def read_ids(release: Folder, stem: str, dtype: str) -> IdTable:
    """Map ids with their lookup; raise InvalidRelease if the lookup does not fit them, or an id is there twice."""
    ids, lookup = _with_lookup(release, stem, dtype)
    check_distinct(ids, release.path / stem)
    return IdTable(ids, lookup)


def read_known(folder: Folder, stem: str, dtype: str) -> IdTable:
    """Map the values of a vocabulary as `read_ids` does; those with a lookup were distinct when it was made."""
    values, lookup = _with_lookup(folder, stem, dtype)
    if lookup is None and not are_distinct(values):
        raise InvalidRelease(f"{folder.path / stem}.npy: a value is there twice")
    return IdTable(values, lookup)


def _with_lookup(release: Folder, stem: str, dtype: str) -> tuple[Ids, Lookup | None]:
    ids = _mapped(release, stem, dtype)
    if not release.has(f"{stem}.order.npy"):
        return ids, None
    lookup = Lookup(*(release.array(f"{stem}.{part}.npy", np.uint32) for part in ("order", "starts")))
    if not finds(lookup, ids):
        raise InvalidRelease(f"{release.path / stem}.order.npy: is no lookup of the {len(ids)} ids; release it again")
    return ids, lookup


def check_distinct(ids: Ids, stem: Path) -> None:
    """Raise InvalidRelease for a duplicate id, or one that stands for none (see `NO_ID`)."""
    none = NO_ID["string" if ids.dtype == object else "int64"]
    if not are_distinct(ids):
        raise InvalidRelease(f"{stem}.npy: an id is there twice; release it again")
    has_none = (np.diff(ids.bounds) == 0).any() if isinstance(ids, Strings) else (ids == none).any()
    if has_none:
        raise InvalidRelease(f"{stem}.npy: {none!r} is there, which stands for no id; release it again")


def trained_ids(release: Release) -> IdTable:
    """Return the rows of the items that the towers were trained with."""
    dtype = release.manifest["id_dtype"]["item_id"]
    trained = release.trained_items
    if "derived_from" not in release.manifest:
        return read_ids(release, "items/ids", dtype)
    # What was added stands behind them, and of an item that was updated the id is there twice.
    ids = read_values(release, "items/ids", dtype)[:trained]
    check_distinct(ids, release.path / "items/ids")
    return IdTable(ids)


def read_column(release: Folder, stem: str, dtype: str, is_list: bool, rows: int) -> Column:
    """Read a column: its values and, if the files exist, which of them are missing and where lists begin. Many strings
    stay in the file until they are used.

    Raises InvalidRelease: the arrays are not of `rows` rows.
    """
    values = _mapped(release, stem, dtype)
    if isinstance(values, Strings) and len(values) < DICTIONARY:
        values = np.array(values.tolist(), dtype=object)
    missing = release.array(f"{stem}.missing.npy", np.bool_) if release.has(f"{stem}.missing.npy") else None
    offsets = release.array(f"{stem}.rows.npy", np.int64) if is_list else None
    fits_rows = len(values) == rows if offsets is None else is_csr(offsets, rows, len(values))
    if not fits_rows or (missing is not None and len(missing) != len(values)):
        raise InvalidRelease(f"{release.path / stem}: the arrays of the column are not of the {rows} rows")
    return Column(cast(np.ndarray, values), missing, offsets)


def null_column(rows: int, dtype: str, is_list: bool) -> Column:
    """Return a column of nulls (of empty lists) with `rows` rows."""
    size = 0 if is_list else rows
    values = np.full(size, "", dtype=object) if dtype == "string" else np.zeros(size, dtype=dtype)
    missing = None if is_list else np.ones(rows, dtype=bool)
    return Column(values, missing, np.zeros(rows + 1, dtype=np.int64) if is_list else None)


def take(column: Column, rows: np.ndarray, dtype: str) -> Column:
    """Return the column's values at `rows`, int64 [n]; a row of -1 is null, or an empty list."""
    if column.offsets is not None:
        index, bounds = take_ranges(column.offsets, rows)
        missing = None if column.missing is None else column.missing[index]
        return Column(column.values[index], missing, bounds)
    if not len(column.values):
        return null_column(len(rows), dtype, False)
    unknown = rows < 0
    missing = unknown if column.missing is None else unknown | column.missing[rows]
    return Column(column.values[rows], missing)


def take_ranges(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in the CSR ranges `rows` (-1: empty), range after range, and their bounds, int64 [n + 1]."""
    known = rows >= 0
    starts = np.where(known, offsets[rows], 0)
    lengths = np.where(known, offsets[rows + 1], 0) - starts
    bounds = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    shift = np.repeat(starts - bounds[:-1], lengths)
    return np.arange(bounds[-1]) + shift, bounds
