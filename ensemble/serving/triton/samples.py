"""Reads the sample queries of a release, `selftest.json`: its fields, and the shapes of their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..files.parameters import Fields, shown
from ..files.schema import Check, Schema, integer, object_of, taken
from ..query.times import FAR

_MOST = 1 << 10
"""Sample queries."""
_INT64 = 1 << 63
_FLOAT32 = 3.4e38


def read_samples(
    fields: Fields, manifest: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]], items: int, ranks: bool
) -> dict[str, Any]:
    """Return the content of `selftest.json`, for a release with this manifest, the `outputs` of its
    `query/transform.json` and so many `items`; if it `ranks`, the file also has candidates and their ranking.

    Raises InvalidRelease: a field is missing, of another type or shape, or out of range; names it.
    """
    rows = fields.length("user_rows")
    if not 0 < rows <= _MOST:
        raise fields.error(f"user_rows must be from 1 to {_MOST} rows, got {rows}")
    answers: Schema = {"items": _numbers((rows, None), -1, items - 1), "scores": _numbers((rows, None), whole=False)}
    required: Schema = {
        "format": integer(1, 1),
        "user_ids": _ids(rows, manifest["id_dtype"]["user_id"]),
        "user_rows": _numbers((rows,), -1, manifest["counts"]["users"] - 1),
        "timestamp": integer(0, FAR),
        "features": object_of({feature["name"]: _feature(rows, feature) for feature in outputs}),
        "vectors": _numbers((rows, manifest["dim"]), whole=False),
        **answers,
    }
    retrieved = {"candidates": _numbers((rows, None), -1, items - 1)}
    ranked = {"ranked": object_of({**answers, **retrieved})} if ranks else {}
    stated = taken(fields, {**required, **ranked})
    for answered in (stated, stated.get("ranked", stated)):
        if np.shape(answered["items"]) != np.shape(answered["scores"]):
            raise fields.error("items and scores are not as many")
    return stated


def _ids(rows: int, dtype: str) -> Check:
    """Return the check of the ids of so many users."""

    def check(fields: Fields, key: str) -> list[Any]:
        if dtype == "string":
            values: list[Any] = fields.texts(key)
        else:
            values = _numbers((rows,), -_INT64, _INT64 - 1)(fields, key)
        if len(values) != rows:
            raise fields.error(f"{key} must be as many as user_rows, got {len(values)}")
        return values

    return check


def _feature(rows: int, output: Mapping[str, Any]) -> Check:
    shape = (rows, output["max_length"]) if output["list"] else (rows,)
    return _numbers(shape, -_INT64, _INT64 - 1, whole=output["dtype"] == "int64")


def _numbers(shape: tuple[int | None, ...], low: int = -_INT64, high: int = _INT64, whole: bool = True) -> Check:
    """Return the check of lists of numbers of this shape (None: any width); null is the score of no item."""

    def check(fields: Fields, key: str) -> list[Any]:
        value: list[Any] = fields.entries(key)
        try:
            array = np.array(_without_null(value) if len(shape) > 1 and not whole else value)
        except (ValueError, TypeError, OverflowError):
            array = np.array(None)
        if array.size and array.dtype.kind not in ("i" if whole else "if"):
            raise fields.error(f"{key} must be lists of {'integers' if whole else 'numbers'}, got {shown(value)}")
        if array.ndim != len(shape) or any(
            want not in (None, had) for want, had in zip(shape, array.shape, strict=True)
        ):
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            actual = " x ".join(map(str, array.shape))
            raise fields.error(f"{key} must be {expected} numbers, as many rows as user_rows has, got {actual}")
        least, most = (low, high) if whole else (-_FLOAT32, _FLOAT32)
        if array.size and not least <= array.min().item() <= array.max().item() <= most:
            raise fields.error(f"{key} must be from {least:g} to {most:g}, got {array.min()} to {array.max()}")
        return value

    return check


def _without_null(rows: list[Any]) -> list[Any]:
    return [[0.0 if number is None else number for number in row] if isinstance(row, list) else row for row in rows]
