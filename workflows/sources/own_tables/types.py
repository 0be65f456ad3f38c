"""Columns of the user's own tables to our types; a value that is not of the type is marked, never changed."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["integer", "float", "string", "list", "datetime"]
Mask = npt.NDArray[np.bool_]

PER_SECOND: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
PER_DAY: Final = 86_400
FIRST_PLACE: Final = 1
"""The time of place 0: interactions that all have 0 have no time."""
BEGINNINGS: Final = {"days": 0, "excel": 25_569}
"""Units of days, and how many of them are before 1970: spreadsheets count from 30 December 1899."""
EXPECTED: Final = {
    "integer": "a whole number that fits 64 bits",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "datetime": "a time such as 2024-05-01 or 2024-05-01T12:30:00Z",
}
ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?\s?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?$"
INTEGER: Final = re.compile(r"-?(0|[1-9]\d{0,18})")
WHOLE: Final = re.compile(r"-?(0|[1-9]\d{0,14})(\.0+)?")
NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
LEADING_ZERO: Final = re.compile(r"\s*-?0\d+.*")


class Cast(NamedTuple):
    """A column of our type, and which of its values are not: those are null in `values`."""

    values: pa.Array
    wrong: Mask


def kind_of(dtype: pa.DataType) -> Kind | None:
    """Return what a typed column holds, None if it is nothing that tables can hold. Bytes become text."""
    types = pa.types
    if types.is_dictionary(dtype):
        return kind_of(dtype.value_type)
    if types.is_integer(dtype) or types.is_boolean(dtype) or (types.is_decimal(dtype) and dtype.scale == 0):
        return "integer"
    if types.is_floating(dtype) or types.is_decimal(dtype):
        return "float"
    if types.is_string(dtype) or types.is_large_string(dtype) or types.is_null(dtype) or _is_bytes(dtype):
        return "string"
    if types.is_timestamp(dtype) or types.is_date(dtype):
        return "datetime"
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return "list" if kind_of(dtype.value_type) in ("integer", "float", "string") else None
    return None


def guess(values: Iterable[str | None], is_id: bool = False) -> Kind:
    """Return what text looks like: integer, float or string; string if there is none.

    Numbers that begin with 0, such as a postal code, are text. Ids such as "12.0" are integers: pandas writes them so
    where a column has nulls.
    """
    kind: Kind | None = None
    for text in values:
        if text is None:
            continue
        value = text.strip()
        if INTEGER.fullmatch(value) and -(2**63) <= int(value) < 2**63:
            kind = kind or "integer"
        elif is_id:
            if not WHOLE.fullmatch(value):
                return "string"
            kind = "integer"
        elif _is_number(value):
            kind = "float"
        else:
            return "string"
    return kind or "string"


def cast(values: pa.Array, kind: Kind) -> Cast:
    """Return a column as int64, float64, string, list, or, of dates, int64 seconds since 1970. NaN is null."""
    values = _plain(values)
    if kind == "list":
        return _clean(values)
    if kind == "datetime":
        return seconds(values, "datetime" if kind_of(values.type) == "datetime" else "iso")
    if kind == "string":
        whole = pa.types.is_floating(values.type) and _try(values, pa.int64())
        return _clean((whole or values).cast(pa.string()))
    convert, dtype = (_to_integer, pa.int64()) if kind == "integer" else (_to_float, pa.float64())
    done = _try(values, dtype)
    return _one_by_one(values, convert, dtype) if done is None else _clean(_without_nan(done))


def split_lists(values: pa.Array, separator: str) -> list[list[str]]:
    """Return text as lists of its non-blank entries, stripped; null is the empty list."""
    texts = values.cast(pa.string()).to_pylist()
    return [[entry for part in text.split(separator) if (entry := part.strip())] if text else [] for text in texts]


def seconds(values: pa.Array, unit: str) -> Cast:
    """Return times as int64 seconds since 1970, cut off; see `workflows.config.OwnTables.timestamp_unit`.

    Raises
    ------
    ValueError
        The column is of a type that the unit does not fit; the message is the unit that does.
    """
    values = _plain(values)
    is_date = kind_of(values.type) == "datetime"
    if is_date != (unit == "datetime"):
        fitting = "datetime" if is_date else "iso" if pa.types.is_string(values.type) else "seconds"
        raise ValueError(fitting)
    if is_date:
        return _clean(values.cast(pa.timestamp("ns"), safe=False).cast(pa.timestamp("s"), safe=False).cast(pa.int64()))
    if unit in PER_SECOND:
        return _numeric_seconds(values, PER_SECOND[unit])
    if unit == "order":
        places = _numeric_seconds(values, 1)
        return places._replace(values=pc.add(places.values, FIRST_PLACE))
    if unit in BEGINNINGS:
        return _one_by_one(values, partial(_seconds_of_days, BEGINNINGS[unit]), pa.int64())
    texts = values.cast(pa.string())
    present = texts.is_valid().to_numpy(zero_copy_only=False)
    if unit == "iso":
        texts = pc.if_else(pc.match_substring_regex(texts, ISO), texts, None)
    form = None if unit == "iso" else unit
    parsed = pd.to_datetime(texts.to_pandas(), utc=True, errors="coerce", format=form)
    missing = parsed.isna().to_numpy()
    whole = parsed.to_numpy(dtype="datetime64[ns]").astype(np.int64) // PER_SECOND["nanoseconds"]
    return Cast(pa.array(whole, pa.int64(), mask=missing), present & missing)


def _numeric_seconds(values: pa.Array, per_second: int) -> Cast:
    def convert(value: Any) -> int:
        number = _exact(value)
        return math.floor(number) // per_second if isinstance(number, int) else math.floor(number / per_second)

    whole = _try(values, pa.int64())
    if whole is None:
        return _one_by_one(values, convert, pa.int64())
    numbers = whole.fill_null(0).to_numpy(zero_copy_only=False) // per_second
    return Cast(pa.array(numbers, mask=whole.is_null().to_numpy(zero_copy_only=False)), _none(whole))


def _seconds_of_days(before: int, value: Any) -> int:
    return math.floor(_exact((_exact(value) - before) * PER_DAY))


def _plain(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of more than one chunk's worth of text
        values = pa.concat_arrays(values.chunks)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if _is_bytes(values.type):
        values = pa.array(map(_bytes_as_text, values.to_pylist()), pa.string())
    return _without_nan(values)


def _without_nan(values: pa.Array) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return values
    wide = values.cast(pa.float64())
    return pc.if_else(pc.is_nan(wide), pa.scalar(None, pa.float64()), wide)


def _try(values: pa.Array, dtype: pa.DataType) -> pa.Array | None:
    try:
        return values.cast(dtype)
    except pa.ArrowInvalid:
        return None


def needs_text(values: Any) -> bool:
    """Return whether numbers have one beyond 64 bits with sign, so that as ids they are text."""
    dtype = values.type
    if not (dtype == pa.uint64() or pa.types.is_decimal(dtype)):
        return False
    return any(value is not None and value >= 2**63 for value in pc.unique(values).to_pylist())


def _is_bytes(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype))


def _bytes_as_text(value: bytes | None) -> str | None:
    """Return 16 bytes as a UUID, others as UTF-8 if they are that, else in hexadecimal."""
    if value is None or len(value) == 16:
        return None if value is None else str(uuid.UUID(bytes=value))
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _none(values: pa.Array) -> Mask:
    return np.zeros(len(values), dtype=np.bool_)


def _clean(values: pa.Array) -> Cast:
    return Cast(values, _none(values))


def _one_by_one(values: pa.Array, convert: Callable[[Any], Any], dtype: pa.DataType) -> Cast:
    """Convert in Python, which is slow, but says which values are wrong."""
    out: list[Any] = []
    wrong = _none(values)
    for row, value in enumerate(values.to_pylist()):
        try:
            out.append(None if value is None else convert(value))
        except (ValueError, ArithmeticError):
            out.append(None)
            wrong[row] = True
    return Cast(pa.array(out, dtype), wrong)


def _exact(value: Any) -> int | float:
    """Return a number without loss where it is whole; raise ValueError where it is none or too large."""
    if "_" in str(value):  # Python reads 1_000
        raise ValueError(value)
    try:
        number = int(value) if isinstance(value, (int, str)) else float(value)
    except ValueError:
        number = float(value)
    if not math.isfinite(number) or not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return number


def _to_integer(value: Any) -> int:
    number = _exact(value)
    if number != int(number) or (isinstance(number, float) and abs(number) >= 2**53):
        raise ValueError(value)
    return int(number)


def _to_float(value: Any) -> float | None:
    if "_" in str(value):
        raise ValueError(value)
    number = float(value)
    return None if math.isnan(number) else number


def _is_number(text: str) -> bool:
    if NUMBER.fullmatch(text):
        return not LEADING_ZERO.fullmatch(text)
    return text.strip().lower() in ("nan", "inf", "-inf")
