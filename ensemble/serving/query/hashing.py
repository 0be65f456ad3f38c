"""64-bit hashes of values, as in `workflows/operators/hashing.py`, and vocabularies that hash unknown values.

Integers: the finaliser of splitmix64 (Steele, Lea and Flood 2014). Strings: BLAKE2b of their UTF-8 bytes (RFC 7693).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from .vocabulary import FIRST_KNOWN, UNSEEN, IntegerVocabulary, StringVocabulary

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = (1 << 64) - 1
FEW = 16
"""Up to this many values Python's integers are faster than NumPy's."""


class HashedIntegers(IntegerVocabulary):
    """A vocabulary of int64 values that maps unknown values to buckets."""

    def __init__(self, known: IntegerVocabulary | None, buckets: int, first: int = FIRST_KNOWN) -> None:
        """Take the vocabulary, None for an empty one, the number of buckets, and the first of their codes."""
        self._known, self._buckets, self._first = known, buckets, first
        self.codes = max(first + buckets, FIRST_KNOWN if known is None else known.codes)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the codes, int64 [n], of int64 [n]."""
        if self._known is None:
            return self._hashed(values)
        codes = self._known.encode(values)
        unseen = codes == UNSEEN
        if unseen.any():
            codes[unseen] = self._hashed(values[unseen])
        return codes

    def _hashed(self, values: np.ndarray) -> np.ndarray:
        if len(values) <= FEW:
            first, buckets = self._first, self._buckets
            return np.array([first + mixed(value & MASK) % buckets for value in values.tolist()], dtype=np.int64)
        return (hash_integers(values) % np.uint64(self._buckets)).astype(np.int64) + self._first


class HashedStrings(StringVocabulary):
    """A vocabulary of strings that maps unknown values to buckets."""

    def __init__(self, known: StringVocabulary | None, buckets: int, first: int = FIRST_KNOWN) -> None:
        """Take what `HashedIntegers` takes."""
        self._known, self._buckets, self._first = known or StringVocabulary([]), buckets, first
        self.codes = max(first + buckets, self._known.codes)

    def encode(self, values: Any) -> np.ndarray:
        """Return the codes, int64 [n], of `str` values; None is null. Raises InvalidRequest for anything else."""
        codes = self._known.encode(values)
        for row in (codes == UNSEEN).nonzero()[0].tolist():
            codes[row] = self._first + hash_string(values[row]) % self._buckets
        return codes


def hash_string(value: str) -> int:
    """Return the hash of one string, from 0 to 2**64 - 1."""
    return int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def hash_integers(values: np.ndarray) -> np.ndarray:
    """Return the hashes, uint64 [n], of int64 [n]."""
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
    """Return the hash of one integer, given modulo 2**64."""
    value = (value + _STEP) & MASK
    value = ((value ^ (value >> 30)) * _FIRST) & MASK
    value = ((value ^ (value >> 27)) * _SECOND) & MASK
    return value ^ (value >> 31)
