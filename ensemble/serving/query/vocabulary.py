"""Vocabularies: null is code 1, unseen values 2, known values from 3, as NVTabular's `Categorify` numbers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRelease, InvalidRequest
from ..files import npy
from ..files.lookup import DICTIONARY, Lookup, Strings, build_lookup, finds, row_finder
from ..files.parameters import Fields, shown

NULL = 1
UNSEEN = 2
FIRST_KNOWN = 3

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
_WORD = re.compile(r"[^\W_]+")
_FEW = 32
"""Up to this many integers a dictionary is faster than a binary search over all at once."""


class IntegerVocabulary:
    """int64 values."""

    def __init__(self, known: np.ndarray, lookup: Lookup | None = None) -> None:
        """Take the distinct known values, int64 [n], in the order of their codes, and their lookup if there is one."""
        self.codes = FIRST_KNOWN + len(known)
        """Every code is below it."""
        self._table: dict[int, int] | None = None
        self._find: Callable[[np.ndarray], np.ndarray] | None = None
        if lookup is not None or len(known) > DICTIONARY:
            self._find = row_finder(known, lookup or build_lookup(known))
            return
        order = np.argsort(known, kind="stable")
        self._sorted = np.ascontiguousarray(known[order])
        self._codes = order + FIRST_KNOWN
        self._table = {value: code for code, value in enumerate(known.tolist(), start=FIRST_KNOWN)}

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the codes, int64 [n], of int64 [n]."""
        if self._find is not None:
            return _codes_of(self._find(values))
        if self._table is not None and len(values) <= _FEW:
            find = self._table.get
            return np.array([find(value, UNSEEN) for value in values.tolist()], dtype=np.int64)
        if not len(self._sorted):
            return np.full(len(values), UNSEEN, dtype=np.int64)
        position = np.minimum(self._sorted.searchsorted(values), len(self._sorted) - 1)
        codes: np.ndarray = np.where(self._sorted[position] == values, self._codes[position], UNSEEN)
        return codes


class StringVocabulary:
    """Strings, compared code point by code point."""

    def __init__(self, known: list[str] | Strings, lookup: Lookup | None = None) -> None:
        """Take the distinct known values in the order of their codes, and the lookup of `Strings`."""
        self.codes = FIRST_KNOWN + len(known)
        """Every code is below it."""
        self._table: dict[Any, int] = {}
        self._find: Callable[[Iterable[Any]], np.ndarray] | None = None
        if isinstance(known, Strings):
            self._find = row_finder(known, lookup or build_lookup(known))
        else:
            self._table = {value: code for code, value in enumerate(known, start=FIRST_KNOWN)}

    def encode(self, values: Iterable[Any]) -> np.ndarray:
        """Return the codes, int64 [n], of `str` values; None is null.

        Raises
        ------
        InvalidRequest
            A value is not a `str`: bytes would otherwise pass for unseen.
        """
        if self._find is None:
            find = self._table.get
            codes = [find(value, UNSEEN) for value in values]
        else:
            codes = _codes_of(self._find(values)).tolist()
        if UNSEEN in codes:
            self._check_unseen(values, codes)
        return np.array(codes, dtype=np.int64)

    def _check_unseen(self, values: Iterable[Any], codes: list[int]) -> None:
        for row, value in enumerate(values):
            if value is None:
                codes[row] = NULL
            elif not isinstance(value, str):
                raise InvalidRequest(f"value {row} is {value!r}: expected a string")


def tokens(text: Any, ngrams: int, most: int) -> list[str]:
    """Return the first `most` of the distinct lower-cased words of `text` and their n-grams; the rules of
    `workflows/operators/text.py`.

    Raises
    ------
    InvalidRequest
        `text` is neither a `str` nor None.
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


def _codes_of(rows: np.ndarray) -> np.ndarray:
    codes = rows + FIRST_KNOWN
    codes[rows < 0] = UNSEEN
    return codes


def load_integers(directory: Path, name: str) -> IntegerVocabulary:
    """Read `<name>.npy`, int64 [n], and map its lookup if there is one.

    Raises
    ------
    InvalidRelease
        A file is missing, damaged, of another type or shape, or has a duplicate; names it. With a lookup, only that is
        checked, since the values were when it was made.
    """
    known = _read(directory, name, ".npy", np.int64)
    if (lookup := _lookup(directory, name, known)) is not None:
        return IntegerVocabulary(known, lookup)
    if len(np.unique(known)) != len(known):
        raise InvalidRelease(f"{directory / name}.npy: a value is there twice")
    return IntegerVocabulary(known)


def load_strings(directory: Path, name: str) -> StringVocabulary:
    """Read `<name>.utf8.npy`, uint8 [bytes], and `<name>.offsets.npy`, uint32 or int64 [n + 1], and map its lookup.

    Raises
    ------
    InvalidRelease
        As for `load_integers`; or the bytes are not UTF-8, or the offsets do not fit them.
    """
    blob = _read(directory, name, ".utf8.npy", np.uint8)
    offsets = _read(directory, name, ".offsets.npy", (np.uint32, np.int64))
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(blob) or np.any(offsets[:-1] > offsets[1:]):
        raise InvalidRelease(f"{directory / name}.offsets.npy: the offsets do not fit the {len(blob)} bytes of text")
    if (lookup := _lookup(directory, name, Strings(blob, offsets))) is not None:
        return StringVocabulary(Strings(blob, offsets), lookup)
    try:
        known = Strings(blob, offsets)[:].tolist()
    except UnicodeDecodeError as error:
        raise InvalidRelease(f"{directory / name}.utf8.npy: not UTF-8: {error}") from None
    if len(set(known)) != len(known):
        raise InvalidRelease(f"{directory / name}.utf8.npy: a value is there twice")
    return StringVocabulary(Strings(blob, offsets) if len(known) > DICTIONARY else known)


def _lookup(directory: Path, name: str, known: np.ndarray | Strings) -> Lookup | None:
    if not (directory / f"{name}.order.npy").exists():
        return None
    lookup = Lookup(*(_read(directory, name, suffix, np.uint32) for suffix in (".order.npy", ".starts.npy")))
    if not finds(lookup, known):
        raise InvalidRelease(f"{directory / name}.order.npy: is no lookup of the {len(known)} values; release it again")
    return lookup


def load_table(directory: Path, name: str) -> np.ndarray:
    """Read `<name>.npy`, float32 [cardinality, width]; raise InvalidRelease as `load_integers`."""
    return _read(directory, name, ".npy", np.float32, dimensions=2)


def name_in(fields: Fields, key: str) -> str:
    """Take the name of a vocabulary or a table; raise InvalidRelease naming the field if it is none."""
    name = fields.text(key)
    if not _NAME.fullmatch(name):
        raise fields.error(f"{key} must be a name of up to 128 letters of ASCII, digits, _ and -, got {shown(name)}")
    return name


def _read(directory: Path, name: str, suffix: str, dtype: type | tuple[type, ...], dimensions: int = 1) -> np.ndarray:
    """Map an array whose file lies in `directory` itself, after resolving links."""
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,)
    path = directory / f"{name}{suffix}"
    if path.resolve().parent != directory.resolve():
        raise InvalidRelease(f"{path}: leads out of the release")
    try:
        array = npy.load(path)
    except OSError as error:
        raise InvalidRelease(f"{path}: not a readable array: {error}") from None
    if array.dtype not in dtypes or array.ndim != dimensions:
        expected = {1: "one dimension", 2: "two dimensions"}[dimensions]
        names = " or ".join(np.dtype(known).name for known in dtypes)
        raise InvalidRelease(f"{path}: expected {expected} of {names}")
    return array
