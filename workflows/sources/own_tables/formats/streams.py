"""Bytes of a file of any compression, and lines in forms of their own as plain delimited text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from workflows.errors import DataError

UNIT: Final = b"\x1f"
"""ASCII's unit separator: what stands for a delimiter of several characters."""
COPIED_BYTES: Final = 1 << 20
MAGIC: Final[dict[bytes, Callable[[Any, str], IO[bytes]]]] = {
    b"\x1f\x8b": lambda file, _: gzip.GzipFile(fileobj=file),  # type: ignore[dict-item,return-value]
    b"BZh": lambda file, _: bz2.BZ2File(file),
    b"\xfd7zXZ\x00": lambda file, _: lzma.LZMAFile(file),  # noqa: SIM115
    b"\x28\xb5\x2f\xfd": lambda file, _: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"),
    b"PK\x03\x04": lambda file, path: _only_member(file, path),
}
"""What a compressed file begins with, and how it is opened."""


def open_plain(filesystem: Any, path: str) -> IO[bytes]:
    """Open a file for reading, unpacked; raise DataError for an archive of several files."""
    file: IO[bytes] = filesystem.open(path, "rb")
    head = file.read(6)
    file.seek(0)
    return next((unpack(file, path) for magic, unpack in MAGIC.items() if head.startswith(magic)), file)


@contextmanager
def plain_copy(filesystem: Any, path: str) -> Iterator[str]:
    """Yield a local, unpacked file: the file itself where it is one, else a copy that is gone afterwards.

    A name that DuckDB would take for a pattern is copied, too.
    """
    with filesystem.open(path, "rb") as file:
        packed = any(file.read(6).startswith(magic) for magic in MAGIC)
    local = isinstance(filesystem, LocalFileSystem)
    if local and not packed and not set(path) & set("*?["):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="retrieval-copy.") as folder:
        copy = Path(folder) / "plain"
        with open_plain(filesystem, path) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, COPIED_BYTES)
        yield str(copy)


class Lines(io.RawIOBase):
    """A readable stream of what an iterator of bytes yields."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._left = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something."""
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = part
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


def with_one_delimiter(file: IO[bytes], delimiter: bytes) -> Iterator[bytes]:
    """Yield the bytes of a file with the unit separator for a delimiter of several characters."""
    while block := file.read(COPIED_BYTES):
        yield (block + file.readline()).replace(delimiter, UNIT)


def without_runs(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file with the unit separator for every run of spaces, and none around lines."""
    while block := file.read(COPIED_BYTES):
        lines = re.sub(rb"(?m)^ +| +(?=\r?$)", b"", block + file.readline())
        yield re.sub(rb" +", UNIT, lines)


def pairs(file: IO[bytes], delimiter: bytes) -> Iterator[bytes]:
    """Yield `user,item` lines for lines of `user item item ...`; a user without items has no line."""
    between = None if delimiter.isspace() else delimiter
    for line in file:
        first, *others = [field.strip() for field in line.split(between)] or [b""]
        if others:
            yield b"".join(first + b"," + item + b"\n" for item in others if item)


def block_rows(file: IO[bytes]) -> Iterator[bytes]:
    """Yield `movie,user,rating,date` lines for lines `movie:`, each followed by lines `user,rating,date`."""
    movie = b""
    for line in file:
        row = line.strip()
        if row.endswith(b":"):
            movie = row[:-1]
        elif row:
            yield movie + b"," + row + b"\n"


def _only_member(file: IO[bytes], path: str) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    members = [
        member.filename for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)
    ]
    if "[Content_Types].xml" in members:
        raise DataError(
            f"{path}: an Excel workbook; save its sheets as CSV, or, of all sheets: "
            f"pandas.concat(pandas.read_excel({path!r}, sheet_name=None)).to_parquet('rows.parquet')"
        )
    if len(members) != 1:
        shown = ", ".join(members[:8])
        example = members[0] if members else "NAME"
        raise DataError(
            f"{path}: holds {len(members)} files ({shown}); say which one is meant: zip://{example}::{path}"
        )
    return archive.open(members[0])


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
