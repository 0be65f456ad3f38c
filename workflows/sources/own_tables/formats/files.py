"""The files of one of the user's tables, found with fsspec, and what they hold by their names or their first bytes."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import fsspec
import pyarrow as pa

from workflows.errors import DataError
from workflows.sources.own_tables.formats.streams import open_plain
from workflows.tables.config import TableFile

FORMATS: Final = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".inter": "csv", ".json": "json",
    ".jsonl": "json", ".ndjson": "json", ".arrow": "arrow", ".feather": "arrow", ".sqlite": "sqlite",
    ".sqlite3": "sqlite", ".duckdb": "duckdb",
}  # fmt: skip
"""Of names that leave no doubt; the others are looked into."""
COMPRESSIONS: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
CONTENTS: Final = (
    ("parquet", re.compile(rb"PAR1")),
    ("arrow", re.compile(rb"ARROW1|FEA1|\xff\xff\xff\xff")),
    ("sqlite", re.compile(rb"SQLite format 3\x00")),
    ("duckdb", re.compile(rb".{8}DUCK", re.DOTALL)),
    ("json", re.compile(rb'(\xef\xbb\xbf)?\s*(\{\s*["}]|\[\s*[\{\]])')),
    ("csv", re.compile(rb"\xff\xfe|\xfe\xff|[^\x00]*$")),
)
"""What a file of a format begins with; text in UTF-16 with its mark, any other has no zeros."""
HEAD_BYTES: Final = 512
VERSIONS: Final = (
    "mtime",
    "ETag",
    "etag",
    "md5Hash",
    "checksum",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
"""What file systems call that which changes when a file does, the surest first."""
ROWS_PER_CHUNK: Final = 131_072
EXAMPLES: Final = 3


@dataclass(frozen=True)
class Located:
    """The files of one table, in the order in which they are read."""

    table: str
    """interactions, users or items."""
    config: TableFile
    filesystem: Any
    root: str
    paths: tuple[str, ...]
    format: str


class Malformed(NamedTuple):
    """Lines of text that have not as many fields as the header."""

    lines: int
    expected: int
    examples: list[tuple[int | None, str]]
    """Line, counted from 1, and its text."""


class Chunk(NamedTuple):
    """Consecutive rows of a file."""

    file: str
    first: int
    """Position in the file of the first row, the header not counted, from 0."""
    rows: pa.Table
    """By the file's names; of a text file everything is text or null."""
    malformed: Malformed | None
    line_of: Callable[[int], int | None] = lambda row: None
    """The line, from 1, on which a row of the file, from 0, begins; None where it has no lines."""


def locate(config: TableFile, table: str) -> Located:
    """Find the files of a table.

    Raises
    ------
    DataError
        There are none, they are not of one format, or the place cannot be reached.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(config.path, **config.storage)
        paths = _paths(filesystem, root)
    except ImportError as error:
        raise DataError(f"data.{table}.path {config.path}: {error}; install that package") from None
    except (OSError, ValueError) as error:
        raise DataError(f"data.{table}.path {config.path}: cannot be reached ({error})") from None
    if not paths:
        raise DataError(
            f"data.{table}.path {config.path}: no such file, or an empty directory; "
            "a relative path is relative to the recipe's directory"
        )
    return Located(table, config, filesystem, str(root), tuple(paths), _format(config, table, filesystem, paths))


def state(located: Located) -> list[list[Any]]:
    """Return name, size in bytes and version (modification time, or what the store has) of every file."""
    return [_facts(located, path) for path in located.paths]


def folders(located: Located, path: str) -> dict[str, str]:
    """Return the columns that a file has by the names of its folders, `name=value`."""
    parents = PurePosixPath(path[len(located.root) :] if path.startswith(located.root) else path).parts[:-1]
    named = (part.partition("=") for part in parents if "=" in part)
    return {name: unquote(value) for name, _, value in named}


def content(filesystem: Any, path: str) -> str:
    """Return the format of a file by what it begins with; raise DataError where it is none that is read."""
    try:
        with open_plain(filesystem, path) as file:
            head = file.read(HEAD_BYTES)
        member = _tar_member(filesystem, path) if head[257:262] == b"ustar" else None
    except (OSError, EOFError, ValueError, pa.ArrowException, tarfile.TarError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if re.match(rb"\s*\{\s*u?'", head):
        raise DataError(
            f"{path}: holds Python's dictionaries, not JSON; write each as json.dumps(ast.literal_eval(line))"
        )
    if member:
        raise DataError(f"{path}: is a tar archive; say which file of it is meant, such as tar://{member}::{path}")
    kind = next((name for name, beginning in CONTENTS if beginning.match(head)), None)
    if kind is None:
        known = ", ".join(name for name, _ in CONTENTS)
        raise DataError(f"{path}: begins with {head[:8]!r}, which is none of {known}; export it as one of them")
    return kind


def _tar_member(filesystem: Any, path: str) -> str:
    """Return the name of the first file of a tar archive."""
    with open_plain(filesystem, path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
        return next((member.name for member in archive if member.isfile()), "NAME")


def _paths(filesystem: Any, root: str) -> list[str]:
    if any(sign in root for sign in "*?["):
        paths = [path for matched in filesystem.glob(root) for path in _below(filesystem, matched)]
    else:
        paths = _below(filesystem, root) if filesystem.exists(root) else []
    return sorted(set(paths))


def _below(filesystem: Any, root: str) -> list[str]:
    """Return the file, or the files of the directory and of those below it that are not hidden."""
    if not filesystem.isdir(root):
        return [str(root)]
    inside = ((str(path), PurePosixPath(str(path)[len(str(root)) :]).parts) for path in filesystem.find(root))
    return [path for path, parts in inside if not any(part.startswith((".", "_")) for part in parts)]


def _format(config: TableFile, table: str, filesystem: Any, paths: list[str]) -> str:
    if config.format != "auto":
        return config.format
    formats: dict[str, str] = {}
    looked: str | None = None
    for path in paths:
        looked = None if _named_format(path) else looked or content(filesystem, path)
        form = _named_format(path) or looked or "csv"
        formats.setdefault(form, path)
    if len(formats) > 1:
        raise DataError(
            f"data.{table}.path {config.path}: has {' and '.join(formats)} files ({', '.join(formats.values())}); set "
            "a pattern that matches the ones that are meant, such as clicks/*.parquet"
        )
    return next(iter(formats))


def _named_format(path: str) -> str | None:
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes if suffix.lower() not in COMPRESSIONS]
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _facts(located: Located, path: str) -> list[Any]:
    try:
        info = located.filesystem.info(path)
    except OSError as error:
        raise DataError(f"data.{located.table}.path {path}: cannot be reached ({error})") from None
    version = next((str(info[key]) for key in VERSIONS if info.get(key) is not None), "")
    return [path, info.get("size"), version]
