"""Chunks of the user's own tables to frames of our columns: bad rows go to the ledger, the others stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.operators.times import MILLISECONDS
from workflows.sources.own_tables.formats.files import Chunk
from workflows.sources.own_tables.plan import Target
from workflows.sources.own_tables.rows import Fault, Ledger
from workflows.sources.own_tables.types import EXPECTED, Cast, Mask, cast, seconds, split_lists

EXACT_IN_FLOAT64 = 2**53


class Caster(NamedTuple):
    """Makes frames of one table's chunks."""

    table: str
    targets: list[Target]
    unit: str
    """`timestamp_unit`."""
    ledger: Ledger

    def unique_frame(self, chunks: list[Chunk], column: str) -> pd.DataFrame:
        """Return the good rows of all chunks, of rows with the same id the first."""
        parts = [self.good(chunk) for chunk in chunks]
        frame = pd.concat([part for part, _ in parts], ignore_index=True)
        twice = frame[column].duplicated().to_numpy()
        self._report_twice(chunks, [rows for _, rows in parts], column, twice)
        frame = frame[~twice].reset_index(drop=True)
        return frame.assign(**{str(name): settled(frame[name], self.table) for name in frame.select_dtypes("Int64")})

    def good(self, chunk: Chunk) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
        """Return the good rows, and where they stand in the chunk."""
        counts = self.ledger.of(self.table)
        counts.read += len(chunk.rows)
        if chunk.malformed:
            self.ledger.add_malformed(self.table, chunk.file, chunk.malformed)
        bad = np.zeros(len(chunk.rows), dtype=np.bool_)
        columns = {target.name: self._column(target, chunk, bad) for target in self.targets}
        good = np.flatnonzero(~bad)
        counts.kept += len(good)
        return pd.DataFrame({name: values.take(good) for name, values in columns.items()}), good

    def _column(self, target: Target, chunk: Chunk, bad: Mask) -> Any:
        """Return a column as a pandas array [n]; rows that are wrong in it are marked in `bad`, in place."""
        values = chunk.rows.column(target.source)
        if target.kind == "list":
            return _lists(values, target.separator)
        done = self._times(values, target) if target.role == "timestamp" else cast(values, target.kind)
        self._mark(target, _type_fault(target, self.unit), chunk, bad, done.wrong)
        if target.role in ("id", "rating", "timestamp"):
            null = Fault(target.name, "null", "present in every row", "fill it in")
            self._mark(target, null, chunk, bad, _nulls(done.values))
        array = _pandas_array(done.values, target)
        for fault, wrong in _range_faults(target, array, self.unit):
            self._mark(target, fault, chunk, bad, wrong)
        return self._titled(array, chunk, bad) if target.role == "title" else array

    def _times(self, values: Any, target: Target) -> Cast:
        try:
            return seconds(values, self.unit)
        except ValueError as error:
            raise DataError(
                f"data.interactions: column {target.source!r} ({target.name}) holds {values.type}, which does not go "
                f'with data.timestamp_unit = "{self.unit}"; set "{error}"'
            ) from None

    def _mark(self, target: Target, fault: Fault, chunk: Chunk, bad: Mask, wrong: Mask) -> None:
        self.ledger.add(self.table, fault, chunk, target.source, wrong & ~bad)
        bad |= wrong

    def _titled(self, titles: Any, chunk: Chunk, bad: Mask) -> Any:
        """Call an item without a title by its id."""
        missing = np.array([title is None for title in titles], dtype=np.bool_)
        if missing.any():
            source = next(target.source for target in self.targets if target.name == Columns.Item)
            ids = cast(chunk.rows.column(source), "string").values.to_pandas().to_numpy(dtype=object)
            titles = np.where(missing, ids, titles)
            self.ledger.of(self.table).without_title += int((missing & ~bad).sum())
        return titles

    def _report_twice(self, chunks: list[Chunk], rows: list[Any], column: str, twice: Mask) -> None:
        target = next(candidate for candidate in self.targets if candidate.name == column)
        fault = Fault(column, "duplicate", "there once", "keep one row for each id")
        start = 0
        for chunk, is_kept in zip(chunks, rows, strict=True):
            wrong = np.zeros(len(chunk.rows), dtype=np.bool_)
            wrong[is_kept[twice[start : start + len(is_kept)]]] = True
            self.ledger.add(self.table, fault, chunk, target.source, wrong)
            start += len(is_kept)
        self.ledger.of(self.table).kept -= int(twice.sum())


def distinct(frames: Iterable[pd.DataFrame], columns: list[str]) -> dict[str, Any]:
    """Return the distinct values of columns, in the order in which they first appear."""
    collected: dict[str, list[Any]] = {column: [] for column in columns}
    for frame in frames:
        for column, parts in collected.items():
            parts.append(pd.unique(frame[column]))
            # Compacted once as much is new as is known: each value is then looked at a few times at most.
            if sum(map(len, parts[1:])) > len(parts[0]):
                parts[:] = [pd.unique(np.concatenate(parts))]
    collected = {column: [pd.unique(np.concatenate(parts))] for column, parts in collected.items() if parts}
    return {column: values for column, (values,) in collected.items() if len(values)}


def _lists(values: Any, separator: str | None) -> Any:
    rows = split_lists(values, separator) if separator else [row or [] for row in values.to_pylist()]
    return pd.Series(rows, dtype=object).to_numpy()


def _nulls(values: pa.Array) -> Mask:
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _pandas_array(values: pa.Array, target: Target) -> Any:
    """Nulls of ids, ratings and times are marked as bad rows already, so any number may stand for them."""
    if target.kind == "string":
        return values.to_pandas().to_numpy(dtype=object)
    if target.role == "rating":
        return values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float32)
    if target.kind == "float":
        return values.to_numpy(zero_copy_only=False).astype(np.float64)
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    if target.role in ("id", "timestamp"):
        return numbers
    return pd.arrays.IntegerArray(np.array(numbers), np.array(_nulls(values)))


def settled(column: pd.Series, table: str) -> pd.Series:
    """Return whole numbers of users and items as int64, or with nulls as float64."""
    if not column.isna().any():
        return column.astype("int64")
    if (column.abs() > EXACT_IN_FLOAT64).any():
        raise DataError(
            f"data.{table}: column {column.name!r} has nulls, and numbers beyond 2**53, inexact beside them; "
            f'set data.{table}.types = {{ {column.name} = "string" }}'
        )
    return column.astype("float64")


def _type_fault(target: Target, unit: str) -> Fault:
    if target.role == "timestamp":
        expected = {"iso": "a time such as 2024-05-01T12:30:00Z", "datetime": "a time"}.get(
            unit, f"a time of the pattern {unit}" if "%" in unit else f"a number of {unit} since 1970"
        )
        return Fault(target.name, "type", expected, "set data.timestamp_unit to what it is")
    comma = ', decimal = "," where it has such' if target.kind == "float" else ""
    remedy = f'correct it, or set types = {{ {target.name} = "string" }}{comma} for this table'
    return Fault(target.name, "type", EXPECTED[target.kind], remedy)


def _range_faults(target: Target, array: Any, unit: str) -> Iterable[tuple[Fault, Mask]]:
    if target.role == "timestamp":
        yield Fault(target.name, "range", "a time since 1970", "correct it"), array < 0
        expected = f"in {unit} (these would be after the year 5138)"
        yield Fault(target.name, "unit", expected, "set data.timestamp_unit to what it is"), array >= MILLISECONDS
    if target.role == "rating":
        yield Fault(target.name, "range", "a finite number", "correct it"), ~np.isfinite(array)
    if target.role == "id" and target.kind == "string":
        yield Fault(target.name, "null", "other than the empty string", "give it an id"), array == ""
    if target.role == "id" and target.kind == "integer":
        lowest = np.iinfo(np.int64).min
        yield Fault(target.name, "range", f"above {lowest}", "choose another id"), array == lowest
