"""Vocabularies: null is code 1, unseen values 2, known values from 3, as NVTabular's `Categorify` numbers them."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np

from ..errors import InvalidRequest
from ..files.lookup import IdTable
from ..files.parameters import Fields, shown
from .hashing import hash_integers, hash_string

NULL = 1
UNSEEN = 2
FIRST_KNOWN = 3

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
_WORD = re.compile(r"[^\W_]+")


class Vocabulary:
    """int64 values, or strings, which are compared code point by code point."""

    def __init__(self, known: IdTable, buckets: int = 0, first: int = FIRST_KNOWN) -> None:
        """Take the known values in the order of their codes, and the number of buckets, from code `first` on, to which
        unknown ones are hashed.
        """
        self._known, self._buckets, self._first = known, buckets, first
        self.codes = max(FIRST_KNOWN + known.size, first + buckets)
        """Every code is below it."""

    def encode(self, values: Any) -> np.ndarray:
        """Return the codes, int64 [n], of int64 [n], or of `str` values; None is null.

        Raises InvalidRequest for a value that is not a `str`: bytes would otherwise pass for unseen.
        """
        codes = self._known.rows_of(values) + FIRST_KNOWN  # of no row, -1: UNSEEN
        if not (self._known.is_string or self._buckets) or UNSEEN not in codes.tolist():
            return codes
        unseen = (codes == UNSEEN).nonzero()[0]
        if not self._known.is_string:
            hashes = hash_integers(values[unseen]) % np.uint64(self._buckets)
            codes[unseen] = hashes.astype(np.int64) + self._first
            return codes
        for row in unseen.tolist():
            value = values[row]
            if value is None:
                codes[row] = NULL
            elif not isinstance(value, str):
                raise InvalidRequest(f"value {row} is {value!r}: expected a string")
            elif self._buckets:
                codes[row] = self._first + hash_string(value) % self._buckets
        return codes


def tokens(text: Any, ngrams: int, most: int) -> list[str]:
    """Return the first `most` of the distinct lower-cased words of `text` and their n-grams; the rules of
    `workflows/operators/text.py`.

    Raises InvalidRequest where `text` is neither a `str` nor None.
    """
    if text is None:
        return []
    if not isinstance(text, str):
        raise InvalidRequest(f"{text!r}: expected a string")
    words = _WORD.findall(text.lower())
    runs = dict.fromkeys(words)
    for length in range(2, ngrams + 1):
        if len(runs) >= most:
            break
        runs.update(dict.fromkeys(map(" ".join, zip(*(words[first:] for first in range(length)), strict=False))))
    return list(islice(runs, most))


def name_in(fields: Fields, key: str) -> str:
    """Take the name of a vocabulary or a table; raise InvalidRelease naming the field if it is none."""
    name = fields.text(key)
    if not _NAME.fullmatch(name):
        raise fields.error(f"{key} must be a name of up to 128 letters of ASCII, digits, _ and -, got {shown(name)}")
    return name
