"""Delimited text inside archives to columns; whatever is wrong is reported with file, line, column and value."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.errors import DataError
from workflows.progress import Progress

MEMBER_LIMIT_BYTES: Final = 2 << 30
"""The largest file that we read out of an archive; the ratings of MovieLens 32M are 0.9 GB."""
ROWS_PER_CHUNK: Final = 2_000_000


@dataclass(frozen=True)
class Number:
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

    def parse(self, text: str) -> float | None:
        """Return the number, or None if `text` is not one or out of place."""
        try:
            value = int(text) if self.dtype == "int64" else float(text)
        except ValueError:
            return None
        if not -(2**63) <= value < 2**63:  # NaN is not, either
            return None
        return None if self.wrong(np.array([value]))[0] else value


def fail(file: str, line: int, column: str | None, value: object, expected: str) -> DataError:
    """Return the error for one value of one line (1-based), or for the line as a whole."""
    what = f"column {column!r}" if column else "the line"
    return DataError(
        f"{file}, line {line}: {what} must be {expected}, got {value!r}; "
        "the archive is not the published one: delete it from the cache and fetch again"
    )


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
            except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
                raise DataError(f"{self.name(member)}: damaged ({error}); delete the archive, fetch again") from None

    def text(self, member: str, encoding: str) -> str:
        """Return a member's content as text."""
        try:
            return self.read(member).decode(encoding)
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            byte = error.object[error.start : error.start + 1]
            raise fail(self.name(member), line, None, byte, f"{encoding} text") from None


def records(text: str, file: str, separator: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of plain delimited text, exactly one field per column."""
    # Not str.splitlines, which also breaks at characters that latin-1 titles may have.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    yield from _counted(
        ((n, line.removesuffix("\r").split(separator)) for n, line in enumerate(lines, 1)), file, columns
    )


def csv_records(text: str, file: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of comma-separated text with quotes, without its header, which must be `columns`."""
    reader = csv.reader(io.StringIO(text, newline=""))
    rows = _counted(((reader.line_num, fields) for fields in reader), file, columns)
    check_header(next(rows, (1, []))[1], file, columns)
    yield from rows


def check_header(fields: Sequence[str], file: str, columns: Sequence[str]) -> None:
    """Refuse a header line that is not `columns`."""
    if list(fields) != list(columns):
        raise fail(file, 1, None, ",".join(fields), f"the header {','.join(columns)}")


def _counted(
    rows: Iterable[tuple[int, list[str]]], file: str, columns: Sequence[str]
) -> Iterator[tuple[int, list[str]]]:
    for line, fields in rows:
        if len(fields) != len(columns):
            expected = f"{len(columns)} fields ({', '.join(columns)})"
            raise fail(file, line, None, fields, expected)
        yield line, fields


def read_numbers(
    source: Callable[[], IO[bytes]],
    file: str,
    separator: str,
    columns: Sequence[Number],
    progress: Progress,
    header: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a table of numbers fast, and slowly again to say what is wrong if something is.

    Parameters
    ----------
    source
        Opens the text from its start; it may be called twice.
    header
        The fields of the first line, if there is such a line.
    """
    try:
        return _read_fast(source, file, separator, columns, progress, header)
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        _diagnose(source, file, separator, columns, header)
        raise DataError(f"{file}: not a table of {len(columns)} columns of numbers ({error}); fetch it again") from None
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: damaged ({error}); delete the archive from the cache and fetch again") from None


def _read_fast(
    source: Callable[[], IO[bytes]],
    file: str,
    separator: str,
    columns: Sequence[Number],
    progress: Progress,
    header: Sequence[str] | None,
) -> pd.DataFrame:
    """Raise ValueError, OverflowError or a ParserWarning if anything is out of place."""
    chunks: list[pd.DataFrame] = []
    with source() as stream, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if header is not None:
            check_header(_fields(stream.readline(), separator), file, header)
        for chunk in _chunks(stream, separator, columns):
            if any(column.wrong(chunk[column.name].to_numpy()).any() for column in columns):
                raise ValueError("a value is out of range")
            chunks.append(chunk)
            if len(chunk) == ROWS_PER_CHUNK:
                progress(f"{file}: {len(chunks) * ROWS_PER_CHUNK:,} rows read")
    return pd.concat(chunks, ignore_index=True)


def _chunks(stream: IO[bytes], separator: str, columns: Sequence[Number]) -> Iterator[pd.DataFrame]:
    yield from pd.read_csv(
        stream,
        sep=separator,
        header=None,
        names=[column.name for column in columns],
        dtype={column.name: column.dtype for column in columns},
        index_col=False,
        skip_blank_lines=False,
        na_filter=False,
        quoting=csv.QUOTE_NONE,
        chunksize=ROWS_PER_CHUNK,
    )


def _diagnose(
    source: Callable[[], IO[bytes]],
    file: str,
    separator: str,
    columns: Sequence[Number],
    header: Sequence[str] | None,
) -> None:
    """Raise for the first line that is not as expected, if there is one."""
    with source() as stream:
        lines = ((number, _fields(line, separator)) for number, line in enumerate(stream, 1))
        if header is not None:
            next(lines, None)
        for line, fields in _counted(lines, file, [column.name for column in columns]):
            for column, text in zip(columns, fields, strict=True):
                if column.parse(text) is None:
                    raise fail(file, line, column.name, text, column.expected)


def _fields(line: bytes, separator: str) -> list[str]:
    return line.decode("utf-8", errors="backslashreplace").rstrip("\r\n").split(separator)
