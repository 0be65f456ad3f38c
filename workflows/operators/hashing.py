"""64-bit hashes of values. `ensemble/serving/query/hashing.py` holds the same functions; tests keep the two equal.

Integers: the finaliser of splitmix64 (Steele, Lea and Flood 2014). Strings: BLAKE2b of their UTF-8 bytes (RFC 7693).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Hashes = npt.NDArray[np.uint64]

_STEP, _FIRST, _SECOND = (
    np.uint64(constant) for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def hash_series(values: pd.Series) -> Hashes:
    """Return the hashes of integers or strings without nulls, uint64 [n]."""
    if pd.api.types.is_integer_dtype(values.dtype):
        return hash_integers(values.to_numpy(dtype=np.int64))
    positions: dict[str, int] = {}  # `pd.factorize` takes strings for equal that are so up to a NUL
    codes = [positions.setdefault(value, len(positions)) for value in values]
    return hash_values(positions)[codes]


def hash_values(values: Iterable[Any]) -> Hashes:
    """Return the hashes of a list of integers, or of one of strings."""
    listed = list(values)
    if listed and not isinstance(listed[0], str):
        return hash_integers(np.array(listed, dtype=np.int64))
    digests = (blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest() for value in listed)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def hash_integers(values: npt.NDArray[np.int64]) -> Hashes:
    """Return the hashes of int64 [n]."""
    return _mixed(values.view(np.uint64))


def combined(hashes: Sequence[Hashes]) -> npt.NDArray[np.int64]:
    """Return one hash of several, int64 [n]; their order matters."""
    key = np.zeros_like(hashes[0])
    for hashed in hashes:
        key = _mixed(key ^ hashed)
    return key.view(np.int64)


def buckets_of(hashes: Hashes, buckets: int) -> npt.NDArray[np.int64]:
    """Return hashes modulo the number of buckets, int64 [n]."""
    return (hashes % np.uint64(buckets)).astype(np.int64)


def _mixed(values: Hashes) -> Hashes:
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
