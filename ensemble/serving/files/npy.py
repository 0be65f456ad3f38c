"""Reads the .npy files of a release: plain numbers in C order, and no byte beyond them.

NumPy's own reader evaluates the header as a Python literal and may unpickle. This one accepts the only spelling in
which `numpy.save` writes the few types that a release holds (version 1.0 of the format,
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InvalidRelease

DTYPES: dict[str, np.dtype] = {
    "<f4": np.dtype(np.float32),
    "<f8": np.dtype(np.float64),
    "<i4": np.dtype(np.int32),
    "<i8": np.dtype(np.int64),
    "<u4": np.dtype(np.uint32),
    "|u1": np.dtype(np.uint8),
    "|b1": np.dtype(np.bool_),
}
"""What an array of a release may hold."""
_START = b"\x93NUMPY\x01\x00"
_LONGEST = 1024
_ALIGNED = 64
_HEADER = re.compile(
    rb"\{'descr': '([<|][biuf][148])', 'fortran_order': False, 'shape': \((\d{1,15},|\d{1,15}, \d{1,15})\), \} *\n"
)


class Header(NamedTuple):
    """The header of a .npy file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    """One or two dimensions."""
    start: int
    """Where the numbers begin, in bytes."""


def header_of(path: Path) -> Header:
    """Return the header of a .npy file.

    Raises InvalidRelease: it is not as `numpy.save` writes the types of a release, or the file is longer or shorter
    than it says.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST)
        size = file.seek(0, 2)
    start = 10 + int.from_bytes(head[8:10], "little")
    header = _HEADER.fullmatch(head[10:start])
    if head[:8] != _START or start > _LONGEST or start % _ALIGNED or header is None:
        raise InvalidRelease(f"{path}: not a .npy file of plain numbers in C order with one or two dimensions")
    descr, lengths = header.group(1).decode(), header.group(2).decode()
    if descr not in DTYPES:
        raise InvalidRelease(f"{path}: type '{descr}', expected one of {', '.join(DTYPES)}")
    shape = tuple(int(length) for length in lengths.split(",") if length)
    if (expected := start + prod(shape) * DTYPES[descr].itemsize) != size:
        raise InvalidRelease(f"{path}: {size} bytes, expected {expected} for {DTYPES[descr]} {shape}")
    return Header(DTYPES[descr], shape, start)


def load(path: Path, mapped: bool = True) -> np.ndarray:
    """Return the array of a .npy file: read-only and shared by processes where it is `mapped`, else in memory.

    Raises InvalidRelease as `header_of` does, or where a truth value is neither 0 nor 1.
    """
    dtype, shape, start = header_of(path)
    if not prod(shape):
        return np.zeros(shape, dtype=dtype)
    if mapped:
        # As a plain array: every slice of a `memmap` costs microseconds more.
        array: np.ndarray = np.memmap(path, dtype, "r", start, shape).view(np.ndarray)
    else:
        array = np.fromfile(path, dtype, prod(shape), offset=start).reshape(shape)
    # NumPy counts truth values by adding their bytes, and fills what it counted.
    if dtype == np.bool_ and array.view(np.uint8).max() > 1:
        raise InvalidRelease(f"{path}: holds a truth value that is neither 0 nor 1")
    return array
