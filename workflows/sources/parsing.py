"""Delimited text inside archives to columns; whatever is wrong is reported with file, line, column and value."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.errors import DataError
from workflows.progress import Progress

MEMBER_LIMIT_BYTES: Final = 2 << 30
"""The largest file that we read out of an archive; the ratings of MovieLens 32M are 0.9 GB."""
ROWS_PER_CHUNK: Final = 2_000_000
DAMAGED: Final = (zipfile.BadZipFile, OSError, EOFError, zlib.error)
"""What reading raises where an archive is damaged."""


class Number(NamedTuple):
    """A column of numbers within `low <= x <= high`, multiples of `step` if there is one."""

    name: str
    low: float
    high: float = float(2**63 - 1)
    step: float | None = None
    dtype: str = "int64"

    @property
    def expected(self) -> str:
        """Such as "a whole number from 1 to 5"."""
        kind = "a whole number" if self.dtype == "int64" else "a number"
        reach = f">= {self.low:g}" if self.high >= 2**63 - 1 else f"from {self.low:g} to {self.high:.15g}"
        return f"{kind} {reach}" + (f" in steps of {self.step:g}" if self.step else "")

    def wrong(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Say of each of `values` [n] whether it is out of place, NaN and infinities included."""
        bad = ~((values >= self.low) & (values <= self.high))
        return bad if self.step is None else bad | (np.mod(values, self.step) != 0)


class Line(NamedTuple):
    """A line of a file, from 1, and its fields."""

    file: str
    number: int
    fields: list[str]

    def error(self, column: str | None, value: object, expected: str) -> DataError:
        """Return the error for one value of the line, or for the line as a whole."""
        what = f"column {column!r}" if column else "the line"
        return DataError(
            f"{self.file}, line {self.number}: {what} must be {expected}, got {value!r}; "
            "the archive is not the published one: delete it from the cache and fetch again"
        )

    def parsed(self, column: Number, text: str) -> float:
        """Return the number that a text of the line is; raise DataError where it is none, or out of place."""
        try:
            value = int(text) if column.dtype == "int64" else float(text)
        except ValueError:
            value = float("nan")
        if not -(2**63) <= value < 2**63 or column.wrong(np.array([value]))[0]:
            raise self.error(column.name, text, column.expected)
        return value

    def check_header(self, columns: Sequence[str]) -> None:
        """Refuse a header line that is not `columns`."""
        if self.fields != list(columns):
            raise self.error(None, ",".join(self.fields), f"the header {','.join(columns)}")


class Archive:
    """A zip archive whose known members are read; nothing is ever extracted to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a readable zip archive ({error}); delete it and fetch again") from None

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def name(self, member: str) -> str:
        """How errors call a member."""
        return f"{self.path.name}/{member}"

    def open(self, member: str) -> IO[bytes]:
        """Open a member for reading.

        Raises
        ------
        DataError
            There is no such member, it is encrypted, or it unpacks to more than 2 GiB.
        """
        try:
            info = self._zip.getinfo(member)
        except KeyError:
            inside = ", ".join(self._zip.namelist()[:8])
            raise DataError(f"{self.path}: has no {member} (it has: {inside}); delete it and fetch again") from None
        if info.file_size > MEMBER_LIMIT_BYTES or info.flag_bits & 1:
            what = "is encrypted" if info.flag_bits & 1 else f"unpacks to {info.file_size:,} bytes"
            raise DataError(f"{self.path}: {member} {what}; delete the archive and fetch it again")
        return self._zip.open(info)

    def read(self, member: str) -> bytes:
        """Return a member's content, its CRC verified."""
        with self.open(member) as file:
            try:
                return file.read()
            except DAMAGED as error:
                raise DataError(f"{self.name(member)}: damaged ({error}); delete the archive, fetch again") from None

    def text(self, member: str, encoding: str) -> str:
        """Return a member's content as text."""
        try:
            return self.read(member).decode(encoding)
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            byte = error.object[error.start : error.start + 1]
            raise Line(self.name(member), line, []).error(None, byte, f"{encoding} text") from None

    def records(
        self, member: str, encoding: str, separator: str, columns: Sequence[str], header: bool = False
    ) -> Iterator[Line]:
        """Yield the lines of plain delimited text, exactly one field per column; a header must be `columns`."""
        # Not str.splitlines, which also breaks at characters that latin-1 titles may have.
        lines = self.text(member, encoding).split("\n")
        if not lines[-1]:
            lines.pop()
        split = enumerate((line.removesuffix("\r").split(separator) for line in lines), 1)
        return self._counted(member, split, columns, header)

    def csv_records(self, member: str, columns: Sequence[str]) -> Iterator[Line]:
        """Yield the lines of comma-separated text with quotes, without its header, which must be `columns`."""
        reader = csv.reader(io.StringIO(self.text(member, "utf-8"), newline=""))
        return self._counted(member, ((reader.line_num, fields) for fields in reader), columns, header=True)

    def _counted(
        self, member: str, rows: Iterable[tuple[int, list[str]]], columns: Sequence[str], header: bool
    ) -> Iterator[Line]:
        lines = _counted((Line(self.name(member), number, fields) for number, fields in rows), columns)
        if header:
            next(lines, Line(self.name(member), 1, [])).check_header(columns)
        return lines


def _counted(lines: Iterable[Line], columns: Sequence[str]) -> Iterator[Line]:
    for line in lines:
        if len(line.fields) != len(columns):
            raise line.error(None, line.fields, f"{len(columns)} fields ({', '.join(columns)})")
        yield line


class NumberTable(NamedTuple):
    """A table of numbers in a file."""

    source: Callable[[], IO[bytes]]
    """Opens the text from its start; it may be called twice."""
    file: str
    separator: str
    columns: Sequence[Number]
    header: Sequence[str] | None
    """The fields of the first line, if there is such a line."""

    def read(self, progress: Progress) -> pd.DataFrame:
        """Read it fast, and slowly again to say what is wrong if something is."""
        try:
            return self._read_fast(progress)
        except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
            self._diagnose()
            what = f"not a table of {len(self.columns)} columns of numbers"
            raise DataError(f"{self.file}: {what} ({error}); fetch it again") from None
        except DAMAGED as error:
            raise DataError(f"{self.file}: damaged ({error}); delete the archive from the cache, fetch again") from None

    def _read_fast(self, progress: Progress) -> pd.DataFrame:
        """Raise ValueError, OverflowError or a ParserWarning if anything is out of place."""
        chunks: list[pd.DataFrame] = []
        with self.source() as stream, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            if self.header is not None:
                Line(self.file, 1, self._split(stream.readline())).check_header(self.header)
            for chunk in pd.read_csv(
                stream,
                sep=self.separator,
                header=None,
                names=[column.name for column in self.columns],
                dtype={column.name: column.dtype for column in self.columns},
                index_col=False,
                skip_blank_lines=False,
                na_filter=False,
                quoting=csv.QUOTE_NONE,
                chunksize=ROWS_PER_CHUNK,
            ):
                if any(column.wrong(chunk[column.name].to_numpy()).any() for column in self.columns):
                    raise ValueError("a value is out of range")
                chunks.append(chunk)
                if len(chunk) == ROWS_PER_CHUNK:
                    progress(f"{self.file}: {len(chunks) * ROWS_PER_CHUNK:,} rows read")
        return pd.concat(chunks, ignore_index=True)

    def _diagnose(self) -> None:
        """Raise for the first line that is not as expected, if there is one."""
        with self.source() as stream:
            lines = (Line(self.file, number, self._split(line)) for number, line in enumerate(stream, 1))
            if self.header is not None:
                next(lines, None)
            for line in _counted(lines, [column.name for column in self.columns]):
                for column, text in zip(self.columns, line.fields, strict=True):
                    line.parsed(column, text)

    def _split(self, line: bytes) -> list[str]:
        return line.decode("utf-8", errors="backslashreplace").rstrip("\r\n").split(self.separator)
