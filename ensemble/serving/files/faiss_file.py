"""Checks a FAISS index file before FAISS reads it.

FAISS trusts its input: it allocates sizes from the file, follows the edges of a graph anywhere, and opens other files
that an index names. So every field of the few layouts that a release can hold is checked here, to the last byte. They
are those that `ensemble/index/build.py` writes (https://github.com/facebookresearch/faiss, faiss/impl/index_write.cpp).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InvalidRelease

_BITS_8, _BITS_4 = 0, 4
_NO_SIZE = 2**64 - 1
"""Codes in blocks have no size of their own."""


class Expected(NamedTuple):
    """The index that the file must hold."""

    kind: str
    """As in `index/params.json`."""
    items: int
    dim: int
    metric: int
    """FAISS's number."""


def check_file(path: Path, expected: Expected) -> None:
    """Raise InvalidRelease unless the file is, field by field, an index of this kind over these items."""
    reader = _Reader(path)
    tag, body = _KINDS[expected.kind]
    reader.expect("kind", reader.tag(), tag)
    _header(reader, expected.items, expected)
    body(reader, expected)
    reader.expect("size in bytes", reader.place, len(reader.content))


class _Reader:
    """The bytes of a file, taken one field after the other."""

    def __init__(self, path: Path) -> None:
        self._path, self.place = path, 0
        # Mapped: an index of gigabytes is not to be held in every process.
        self.content = np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.empty(0, np.uint8)

    def wrong(self, reason: str) -> InvalidRelease:
        return InvalidRelease(f"{self._path}: no index that a release holds: {reason}; release it again")

    def expect(self, what: str, value: object, expected: object) -> None:
        if value != expected:
            raise self.wrong(f"{what} {value!r}, expected {expected!r}")

    def tag(self) -> str:
        return self._bytes(4).tobytes().decode("latin-1")

    def number(self, form: str) -> int:
        """Take one number, in `struct`'s notation."""
        return int(struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")).tobytes())[0])

    def array(self, dtype: type, count: int) -> np.ndarray:
        return self._bytes(count * np.dtype(dtype).itemsize).view(dtype)

    def vector(self, what: str, dtype: type, count: int | None = None) -> np.ndarray:
        """Take a number of entries, `count` if that is known, and the entries."""
        size = self.number("Q")
        if count is not None:
            self.expect(f"number of {what}", size, count)
        return self.array(dtype, size)

    def _bytes(self, count: int) -> np.ndarray:
        if count > len(self.content) - self.place:
            raise self.wrong(f"{len(self.content)} bytes, {self.place + count} or more expected")
        self.place += count
        return self.content[self.place - count : self.place]


def _header(reader: _Reader, vectors: int, expected: Expected) -> None:
    reader.expect("dimensions", reader.number("i"), expected.dim)
    reader.expect("items", reader.number("q"), vectors)
    reader.array(np.int64, 2)  # no longer used
    reader.expect("trained", reader.number("B"), 1)
    reader.expect("metric", reader.number("i"), expected.metric)


def _inverted(reader: _Reader, expected: Expected) -> int:
    """Take the centroids; return the number of lists."""
    lists = reader.number("Q")
    if not 0 < lists <= expected.items:
        raise reader.wrong(f"{lists} lists of {expected.items} items")
    reader.number("Q")  # how many to read, which a search says again
    reader.expect("centroids", reader.tag(), "IxFI" if expected.metric == 0 else "IxF2")
    _header(reader, lists, expected)
    reader.vector("centroids' numbers", np.float32, lists * expected.dim)
    reader.expect("map of items", reader.number("B"), 0)
    reader.vector("mapped items", np.int64, 0)
    return lists


def _ivf_flat(reader: _Reader, expected: Expected) -> None:
    _lists(reader, _inverted(reader, expected), expected.items, 4 * expected.dim)


def _ivf_sq8(reader: _Reader, expected: Expected) -> None:
    lists = _inverted(reader, expected)
    _scalar_quantizer(reader, expected)
    reader.expect("bytes of a code", reader.number("Q"), expected.dim)
    _flag(reader, "by residual")
    _lists(reader, lists, expected.items, expected.dim)


def parts_of(dim: int) -> int:
    """Return into how many parts a product quantizer divides a vector of so many numbers: equal ones, of two where that
    is possible, else of three or of one; blended towers have odd widths."""
    return dim // next(width for width in (2, 3, 1) if dim % width == 0)


def _ivf_pq(reader: _Reader, expected: Expected) -> None:
    lists, parts = _inverted(reader, expected), parts_of(expected.dim)
    _flag(reader, "by residual")
    code_bytes, even = (parts + 1) // 2, (parts + 1) // 2 * 2
    reader.expect("bytes of a code", reader.number("Q"), code_bytes)
    reader.expect("items of a block", reader.number("i"), 32)
    reader.expect("parts", reader.number("Q"), even)
    reader.expect("implementation", reader.number("i"), 0)
    reader.number("Q")  # how queries are grouped
    for what, value in (("dimensions of codes", expected.dim), ("parts", parts), ("bits of a part", _BITS_4)):
        reader.expect(what, reader.number("Q"), value)
    reader.vector("codebook's numbers", np.float32, expected.dim << _BITS_4)
    _blocks(reader, lists, expected.items, 32 * even // 2)


def _hnsw(reader: _Reader, expected: Expected) -> None:
    _graph(reader, expected.items)
    reader.expect("storage", reader.tag(), "IxSQ")
    _header(reader, expected.items, expected)
    _scalar_quantizer(reader, expected)
    reader.vector("codes", np.uint8, expected.items * expected.dim)


def _scalar_quantizer(reader: _Reader, expected: Expected) -> None:
    reader.expect("quantizer", reader.number("i"), _BITS_8)
    reader.array(np.float32, 2)  # how its ranges were found
    reader.expect("dimensions of codes", reader.number("Q"), expected.dim)
    reader.expect("bytes of a code", reader.number("Q"), expected.dim)
    reader.vector("ranges", np.float32, 2 * expected.dim)


def _flag(reader: _Reader, what: str) -> None:
    if (flag := reader.number("B")) > 1:
        raise reader.wrong(f"{what} {flag}, expected 0 or 1")


def _lists(reader: _Reader, lists: int, items: int, code_bytes: int) -> None:
    """Take lists that can be mapped: all sizes, then codes and items list by list."""
    reader.expect("lists", reader.tag(), "ilar")
    reader.expect("number of lists", reader.number("Q"), lists)
    reader.expect("bytes of a code", reader.number("Q"), code_bytes)
    sizes = np.zeros(lists, dtype=np.uint64)
    if (form := reader.tag()) == "full":
        sizes = reader.vector("sizes of lists", np.uint64, lists)
    else:
        reader.expect("form of lists", form, "sprs")
        pairs = reader.vector("sizes of lists", np.uint64)
        numbers = pairs[::2]
        if len(pairs) % 2 or (numbers >= lists).any() or len(np.unique(numbers)) != len(numbers):
            raise reader.wrong("sizes of other lists than there are")
        sizes[numbers.astype(np.int64)] = pairs[1::2]
    if (sizes > items).any():
        raise reader.wrong(f"a list of more than the {items} items")
    reader.expect("items in lists", int(sizes.sum()), items)
    for size in sizes.tolist():
        reader.array(np.uint8, size * code_bytes)
        _check_items(reader, reader.array(np.int64, size), items)


def _blocks(reader: _Reader, lists: int, items: int, block_bytes: int) -> None:
    """Take lists whose codes stand in blocks of 32 items."""
    reader.expect("lists", reader.tag(), "ilbl")
    reader.expect("number of lists", reader.number("Q"), lists)
    reader.expect("bytes of a code", reader.number("Q"), _NO_SIZE)
    reader.expect("items of a block", reader.number("Q"), 32)
    reader.expect("bytes of a block", reader.number("Q"), block_bytes)
    total = 0
    for _ in range(lists):
        item_numbers = reader.vector("items of a list", np.int64)
        _check_items(reader, item_numbers, items)
        reader.vector("codes of a list", np.uint8, (len(item_numbers) + 31) // 32 * block_bytes)
        total += len(item_numbers)
    reader.expect("items in lists", total, items)


def _check_items(reader: _Reader, item_numbers: np.ndarray, items: int) -> None:
    if len(item_numbers) and not 0 <= int(item_numbers.min()) <= int(item_numbers.max()) < items:
        raise reader.wrong(f"a list holds an item that is none of the {items}")


def _graph(reader: _Reader, items: int) -> None:
    """Take the graph; each edge must lead to an item that stands on its level, or be -1."""
    reader.vector("shares of levels", np.float64)
    width = reader.vector("edges up to a level", np.int32).astype(np.int64)
    levels = reader.vector("levels", np.int32, items).astype(np.int64)
    offsets = reader.vector("bounds of edges", np.uint64, items + 1)
    edges = reader.vector("edges", np.int32)
    entry, top = reader.number("i"), reader.number("i")
    reader.array(np.int32, 3)  # efforts of building and of a search, which says its own; and one that is no longer used
    if not len(width) or width[0] != 0 or (width[:-1] > width[1:]).any():
        raise reader.wrong("the numbers of edges by level do not ascend from 0")
    if levels.min(initial=1) < 1 or levels.max(initial=1) >= len(width):
        raise reader.wrong("an item stands on a level that there is not")
    if not 0 <= entry < items or top != levels[entry] - 1 or top != levels.max() - 1:
        raise reader.wrong(f"the entry {entry} does not stand on the highest level, {top}")
    if offsets[0] != 0 or not np.array_equal(np.diff(offsets).astype(np.int64), width[levels]):
        raise reader.wrong("the bounds of edges are not those of the items' levels")
    reader.expect("number of edges", len(edges), int(offsets[-1]))
    if len(edges) and not -1 <= int(edges.min()) <= int(edges.max()) < items:
        raise reader.wrong(f"an edge leads to an item that is none of the {items}")
    _check_upper(reader, width, levels, offsets.astype(np.int64), edges)


def _check_upper(
    reader: _Reader, width: np.ndarray, levels: np.ndarray, offsets: np.ndarray, edges: np.ndarray
) -> None:
    for level in range(1, int(levels.max())):
        on = np.flatnonzero(levels > level)
        leads = edges[offsets[on, None] + np.arange(width[level], width[level + 1])]
        if (levels[leads[leads >= 0]] <= level).any():
            raise reader.wrong(f"an edge on level {level} leads to an item that does not stand there")


_KINDS = {
    "ivf_flat": ("IwFl", _ivf_flat),
    "ivf_sq8": ("IwSq", _ivf_sq8),
    "ivf_pq": ("IwPf", _ivf_pq),
    "hnsw": ("IHNs", _hnsw),
}
