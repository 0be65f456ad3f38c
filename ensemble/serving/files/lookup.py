"""Maps ids to rows, for any number of ids, with arrays that are mapped from files and shared by processes.

`order` holds the rows bucket by bucket, and `starts` the beginning of each bucket. With two to four rows in a bucket,
an id is found by reading two starts and comparing a few ids. That takes 5 to 6 bytes per id beside the ids themselves,
and 4 more for the offset of a string; a dictionary takes a hundred, in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple, Union, overload
from zlib import crc32

import numpy as np

DICTIONARY = 10_000
"""Up to this many ids a dictionary is built: faster still, and no more than a megabyte."""
FEW = 64
"""So many integers are looked up one by one faster than by NumPy all at once."""
_BLOCK = 1 << 18
_ROWS_PER_BUCKET = 4
_GOLDEN = 0x9E3779B97F4A7C15
"""2**64 / the golden ratio: its multiples fill the 64-bit numbers evenly (Knuth, TAOCP 3, 6.4)."""
_MASK = (1 << 64) - 1
_Array = np.ndarray


class Strings:
    """Strings as UTF-8 and where each begins; decoded when they are asked for."""

    dtype = np.dtype(object)
    ndim = 1

    def __init__(self, blob: _Array, offsets: _Array) -> None:
        """Take uint8 [bytes] and uint32 or int64 [n + 1], that fit each other."""
        self._blob = np.ascontiguousarray(blob).data
        self.bounds = np.ascontiguousarray(offsets).data
        """Where each begins, and the end."""
        self.shape = (len(offsets) - 1,)

    def __len__(self) -> int:
        return self.shape[0]

    def raw(self, row: int) -> bytes:
        """Return one string's UTF-8."""
        return self._blob[self.bounds[row] : self.bounds[row + 1]].tobytes()

    def checksums(self) -> _Array:
        """Return the CRC-32 of every string, uint32 [n]."""
        checksums, blob = np.empty(len(self), dtype=np.uint32), self._blob
        for start in range(0, len(self), _BLOCK):
            bounds = self.bounds[start : start + _BLOCK + 1].tolist()
            checksums[start : start + _BLOCK] = [crc32(blob[low:high]) for low, high in pairwise(bounds)]
        return checksums

    def tolist(self) -> list[str]:
        """Return all of them."""
        data = self._blob.tobytes()
        return [data[start:end].decode("utf-8") for start, end in pairwise(self.bounds.tolist())]

    @overload
    def __getitem__(self, rows: int) -> str: ...
    @overload
    def __getitem__(self, rows: _Array) -> _Array: ...
    def __getitem__(self, rows: Any) -> Any:
        """Return a string, or an object array of `str` for an array of rows (a negative one counts from the end)."""
        if isinstance(rows, (int, np.integer)):
            return self.raw(int(rows) % len(self)).decode("utf-8")
        return np.array([self.raw(row).decode("utf-8") for row in (rows % len(self)).tolist()], dtype=object)


Ids = Union[_Array, Strings]
"""Distinct ids in row order: int64 [n], or strings."""


class Lookup(NamedTuple):
    """The rows by hash of their ids."""

    order: _Array
    """uint32 [n]: rows, bucket by bucket."""
    starts: _Array
    """uint32 [2**b + 1]: where in `order` each bucket begins, and the end; the bucket is the hash's first b bits."""


class IdTable:
    """Distinct ids, int64 or strings, and the row of each."""

    def __init__(self, ids: Ids, lookup: Lookup | None = None) -> None:
        """Take ids in row order: int64 [n], an object array of `str` [n], or `Strings`.

        A lookup that is missing is made where a dictionary of integers, or of `Strings`, would be large.
        """
        self.is_string, self.size = ids.dtype == object, len(ids)
        self._rows: dict[Any, int] | None = None
        decoded = self.is_string and not isinstance(ids, Strings)
        if lookup is None and (decoded or self.size <= DICTIONARY):
            self._rows = {value: row for row, value in enumerate(ids.tolist())}
        else:
            self._find = row_finder(ids, lookup or build_lookup(ids))

    def rows_of(self, ids: Any) -> _Array:
        """Return each id's row, int64 [n]; -1 for an unknown id."""
        if self._rows is None:
            return self._find(ids)
        find = self._rows.get
        return np.array([find(value, -1) for value in (ids if self.is_string else ids.tolist())], dtype=np.int64)


def build_lookup(ids: Ids) -> Lookup:
    """Return the lookup of distinct ids; raise ValueError for more than 2**32 - 1."""
    if len(ids) >= 1 << 32:
        raise ValueError(f"{len(ids)} ids: expected less than 2**32")
    bits = max(1, (len(ids) // _ROWS_PER_BUCKET).bit_length())
    buckets = _hashes(ids) >> np.uint32(32 - bits)
    order = buckets.argsort(kind="stable").astype(np.uint32)
    sizes = np.bincount(buckets, minlength=1 << bits)
    return Lookup(order, np.concatenate([[0], sizes.cumsum()]).astype(np.uint32))


def are_distinct(ids: Ids) -> bool:
    """Return whether no id is duplicated; in a large table only ids with equal hashes are compared."""
    if len(ids) <= DICTIONARY or (isinstance(ids, np.ndarray) and ids.dtype == object):
        return len(set(ids.tolist())) == len(ids)
    hashes = _hashes(ids)
    ordered = np.sort(hashes)
    rows = np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]]).nonzero()[0]
    return len(set(ids[rows].tolist())) == len(rows)


def finds(lookup: Lookup, ids: Ids) -> bool:
    """Return whether it is the lookup of `ids`: each row is in it once, in the bucket of its id."""
    if not fits(lookup, len(ids)):
        return False
    buckets = _hashes(ids) >> np.uint32(_shift(lookup))
    expected = np.repeat(np.arange(len(lookup.starts) - 1, dtype=np.uint32), np.diff(lookup.starts))
    once = np.bincount(lookup.order, minlength=len(ids)) == 1
    return bool(once.all() and (buckets[lookup.order] == expected).all())


def fits(lookup: Lookup, size: int) -> bool:
    """Return whether it can be a lookup of `size` ids, with every number in its range."""
    order, starts = lookup
    if any(array.dtype != np.uint32 or array.ndim != 1 for array in lookup) or len(order) != size or len(starts) < 3:
        return False
    if (len(starts) - 1) & (len(starts) - 2) or len(starts) > 1 << 32 or starts[0] != 0 or starts[-1] != size:
        return False
    return bool((starts[:-1] <= starts[1:]).all() and (not size or order.max() < size))


def row_finder(ids: Ids, lookup: Lookup) -> Callable[[Any], _Array]:
    """Return a function from ids (int64 [n], or strings) to rows, int64 [n]; -1 for an unknown id."""
    return _string_finder(ids, lookup) if isinstance(ids, Strings) else _integer_finder(ids, lookup)


def _string_finder(ids: Strings, lookup: Lookup) -> Callable[[Iterable[Any]], _Array]:
    order, starts = lookup.order.data, lookup.starts.data
    shift, raw = _shift(lookup), ids.raw

    def row_of(value: Any) -> int:
        if not isinstance(value, str):
            return -1
        encoded = value.encode("utf-8", "surrogatepass")
        bucket = crc32(encoded) >> shift
        for place in range(starts[bucket], starts[bucket + 1]):
            if raw(order[place]) == encoded:
                return int(order[place])
        return -1

    return lambda values: np.array([row_of(value) for value in values], dtype=np.int64)


def _integer_finder(ids: _Array, lookup: Lookup) -> Callable[[_Array], _Array]:
    known, order, starts = ids.data, lookup.order.data, lookup.starts.data
    shift = _shift(lookup)

    def row_of(value: int) -> int:
        bucket = ((value * _GOLDEN) & _MASK) >> 32 >> shift
        for place in range(starts[bucket], starts[bucket + 1]):
            if known[order[place]] == value:
                return int(order[place])
        return -1

    def rows_of(values: _Array) -> _Array:
        if len(values) <= FEW:
            return np.array([row_of(value) for value in values.tolist()], dtype=np.int64)
        return _rows_of_many(values, ids, lookup)

    return rows_of


def _rows_of_many(values: _Array, ids: _Array, lookup: Lookup) -> _Array:
    """Look at the first row of every value's bucket, then at the second of those not found, and so on."""
    bucket = _hashes(values) >> np.uint32(_shift(lookup))
    place, end = lookup.starts[bucket].astype(np.int64), lookup.starts[bucket.astype(np.int64) + 1]
    rows_found = np.full(len(values), -1, dtype=np.int64)
    unsettled = (place < end).nonzero()[0]
    while len(unsettled):
        rows = lookup.order[place[unsettled]]
        same = ids[rows] == values[unsettled]
        rows_found[unsettled[same]] = rows[same]
        unsettled = unsettled[~same]
        place[unsettled] += 1
        unsettled = unsettled[place[unsettled] < end[unsettled]]
    return rows_found


def _shift(lookup: Lookup) -> int:
    return 32 - (len(lookup.starts) - 1).bit_length() + 1


def _hashes(ids: Ids) -> _Array:
    """Return 32-bit hashes, uint32 [n]."""
    if isinstance(ids, Strings):
        return ids.checksums()
    values = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint64)
    return (values * np.uint64(_GOLDEN) >> np.uint64(32)).astype(np.uint32)
