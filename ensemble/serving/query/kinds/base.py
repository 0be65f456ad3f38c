"""What the operators of all kinds share: columns, vocabularies, checked parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from ...errors import InvalidRequest
from ...files.arrays import Column as Column
from ...files.arrays import read_known
from ...files.lookup import IdTable
from ...files.parameters import Fields
from ...files.release import Folder
from ..vocabulary import FIRST_KNOWN, Vocabulary, name_in

LONGEST = 1_000_000
"""Entries of the longest list."""
IDS, NUMBERS, ANY = ("int64", "string"), ("int64", "float64"), ("int64", "float64", "string")
CODE, NUMBER = (("", "int64"),), (("", "float32"),)
_BIGGEST = 1 << 40


class Parts(NamedTuple):
    """The environment of an operator, beside its parameters."""

    dtypes: list[str]
    """Of the inputs."""
    width: int
    """Of the outputs; 0 for scalars."""
    folder: Folder
    """Of the vocabularies."""


class Computes(Protocol):
    """An operator of a step, with its parameters."""

    @property
    def compute(self) -> Callable[..., Any]:
        """`compute(*columns)` makes the array of a feature, or those of several, of the columns of n rows."""


class Operator(NamedTuple):
    """Inputs and outputs of an operator, and its class, which raises InvalidRelease for wrong parameters."""

    takes: tuple[tuple[tuple[str, ...], bool], ...]
    """Data types and whether lists, input by input."""
    makes: tuple[tuple[str, str], ...]
    """Suffix and data type of every output."""
    wide: bool
    """Whether they are [n, max_length]."""
    build: Callable[[Fields, Parts], Computes]
    repeats: bool = False
    """Whether it takes any number of inputs, all as the first one."""


def vocabulary_of(fields: Fields, parts: Parts) -> Vocabulary:
    """Read the vocabulary, with buckets for unknown values if the step has some; without one, hash everything."""
    dtype, hashed = parts.dtypes[0], fields.has("hash_buckets")
    if fields.has("vocabulary") or not hashed:
        known = read_known(parts.folder, name_in(fields, "vocabulary"), dtype)
    else:
        known = IdTable(np.zeros(0, dtype=object if dtype == "string" else np.int64))
    if not hashed:
        return Vocabulary(known)
    buckets = fields.integer("hash_buckets", 1, _BIGGEST)
    return Vocabulary(known, buckets, fields.integer("hash_from", FIRST_KNOWN, _BIGGEST))


def width_of(fields: Fields, parts: Parts) -> int:
    """Take the width of a list, which the output has, too."""
    if fields.integer("max_length", 1, LONGEST) != parts.width:
        raise fields.error("max_length is not that of the output")
    return parts.width


def option(fields: Fields, key: str) -> bool:
    """Take a flag that is false by default."""
    return fields.has(key) and fields.flag(key)


def rising(edges: list[float]) -> bool:
    """Return whether edges increase strictly."""
    return all(low < high for low, high in pairwise(edges))


def with_none(column: Column) -> np.ndarray:
    """Return the values with None for missing strings, so that nothing looks at them."""
    if column.missing is None or column.values.dtype != object:
        return column.values
    values = column.values.copy()
    values[column.missing] = None
    return values


def numbers_of(column: Column) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a float64 copy, and a mask of its nulls unless there can be none."""
    return column.values.astype(np.float64), nulls_of(column)


def nulls_of(column: Column) -> np.ndarray | None:
    """Return a mask of the nulls among a column's values, None where there can be none."""
    values, missing = column.values, column.missing
    if values.dtype.kind == "i":
        return missing
    if values.dtype == object:
        null = np.array([value is None for value in values.tolist()], dtype=bool)
    else:
        null = np.isnan(values)
    return null if missing is None else null | missing


def without(column: Column, dropped: np.ndarray) -> Column:
    """Return a list column without the `dropped` entries, a mask."""
    totals = np.zeros(len(dropped) + 1, dtype=np.int64)
    np.cumsum(~dropped, out=totals[1:])
    return Column(column.values[~dropped], None, totals[column.offsets])


def check_finite(numbers: np.ndarray, what: str) -> None:
    """Raise InvalidRequest, with the row, unless float32 [n, width] is finite."""
    finite = np.isfinite(numbers)
    if not finite.all():
        row, place = (int(axis[0]) for axis in np.nonzero(~finite))
        raise InvalidRequest(f"row {row}: got {numbers[row, place]} in {what}")
