"""64-bit hashes of values, as in `workflows/operators/hashing.py`.

Integers: the finaliser of splitmix64 (Steele, Lea and Flood 2014). Strings: BLAKE2b of their UTF-8 bytes (RFC 7693).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1
FEW = 16
"""Up to this many values Python's integers are faster than NumPy's."""


def hash_string(value: str) -> int:
    """Return the hash of one string, from 0 to 2**64 - 1."""
    return int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def hash_integers(values: np.ndarray) -> np.ndarray:
    """Return the hashes, uint64 [n], of int64 [n]."""
    if len(values) <= FEW:
        return np.array([mixed(value) for value in values.tolist()], dtype=np.uint64)
    values = values.view(np.uint64) + np.uint64(_STEP)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))


def combined(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """Return one hash of several, int64 [n]; their order matters."""
    key = np.zeros_like(hashes[0])
    for column in hashes:
        key = hash_integers(key ^ column)
    return key.view(np.int64)


def mixed(value: int) -> int:
    """Return the hash of one integer, modulo 2**64."""
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)
