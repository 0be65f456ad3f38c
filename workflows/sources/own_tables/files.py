"""The files of one of the user's tables: found with fsspec, read a chunk at a time with pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from workflows.errors import DataError
from workflows.tables.config import TableFile

FORMATS: Final = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv"}
COMPRESSIONS: Final = (".gz", ".bz2", ".xz")
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
CSV_BLOCK_BYTES: Final = 8 << 20
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
    """Lines of a CSV file that have not as many fields as the header."""

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
    """By the file's names; of a CSV file everything is text or null."""
    malformed: Malformed | None


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
    return Located(table, config, filesystem, str(root), tuple(paths), _format(config, table, paths))


def state(located: Located) -> list[list[Any]]:
    """Return name, size in bytes and version (modification time, or what the store has) of every file."""
    return [_facts(located, path) for path in located.paths]


def schema(located: Located) -> pa.Schema:
    """Return the columns of the first file, by its names; folders called `name=value` are columns of text.

    Raises
    ------
    DataError
        It cannot be read, two columns have one name, or another file has other columns.
    """
    found = _schema(located, located.paths[0])
    twice = {name for name in found.names if found.names.count(name) > 1}
    if twice:
        raise DataError(f"{located.paths[0]}: two columns are called {min(twice)!r}; rename one of them")
    for path in located.paths[1:]:
        other = _schema(located, path)
        if set(other.names) != set(found.names):
            differing = sorted(set(other.names) ^ set(found.names))
            raise DataError(
                f"{path}: has not the same columns as {located.paths[0]} ({', '.join(map(repr, differing))} in one "
                f"only); a table's files must have the same: set data.{located.table}.path to those that do"
            )
    return found


def chunks(located: Located, names: list[str]) -> Iterator[Chunk]:
    """Read columns of all files in order, at most a few megabytes at a time.

    Raises
    ------
    DataError
        A file is damaged, or is not what its name says.
    """
    read = _parquet_chunks if located.format == "parquet" else _csv_chunks
    for path in located.paths:
        folders = _folders(located, path)
        try:
            for chunk in read(located, path, [name for name in names if name not in folders]):
                yield chunk._replace(rows=_with_folders(chunk.rows, folders, names))
        except (OSError, pa.ArrowException, UnicodeError, EOFError) as error:
            raise _unreadable(located, path, error) from None


def _paths(filesystem: Any, root: str) -> list[str]:
    if any(sign in root for sign in "*?["):
        found = [path for one in filesystem.glob(root) for path in _below(filesystem, one)]
    else:
        found = _below(filesystem, root) if filesystem.exists(root) else []
    return sorted(set(found))


def _below(filesystem: Any, root: str) -> list[str]:
    """Return the file, or the files of the directory and of those below it that are not hidden."""
    if not filesystem.isdir(root):
        return [str(root)]
    inside = ((str(path), PurePosixPath(str(path)[len(str(root)) :]).parts) for path in filesystem.find(root))
    return [path for path, parts in inside if not any(part.startswith((".", "_")) for part in parts)]


def _format(config: TableFile, table: str, paths: list[str]) -> str:
    if config.format != "auto":
        return config.format
    formats: dict[str, str] = {}
    for path in paths:
        suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes if suffix.lower() not in COMPRESSIONS]
        found = FORMATS.get(suffixes[-1]) if suffixes else None
        if found is None:
            raise DataError(
                f'{path}: neither .parquet nor .csv; set data.{table}.format = "parquet" or "csv", or in data.{table}.'
                "path the pattern of the files that are meant"
            )
        formats.setdefault(found, path)
    if len(formats) > 1:
        raise DataError(
            f"data.{table}.path {config.path}: has parquet and CSV files ({', '.join(formats.values())}); set a "
            "pattern that matches the ones that are meant, such as clicks/*.parquet"
        )
    return next(iter(formats))


def _facts(located: Located, path: str) -> list[Any]:
    try:
        info = located.filesystem.info(path)
    except OSError as error:
        raise DataError(f"data.{located.table}.path {path}: cannot be reached ({error})") from None
    version = next((str(info[key]) for key in VERSIONS if info.get(key) is not None), "")
    return [path, info.get("size"), version]


def _folders(located: Located, path: str) -> dict[str, str]:
    parents = PurePosixPath(path[len(located.root) :] if path.startswith(located.root) else path).parts[:-1]
    named = (part.partition("=") for part in parents if "=" in part)
    return {name: unquote(value) for name, _, value in named}


def _schema(located: Located, path: str) -> pa.Schema:
    try:
        if located.format == "parquet":
            with located.filesystem.open(path, "rb") as file:
                found = pq.read_schema(file)
        else:
            names = _csv_names(located, path)
            found = pa.schema([(name, pa.string()) for name in names])
    except (OSError, pa.ArrowException, UnicodeError, EOFError) as error:
        raise _unreadable(located, path, error) from None
    for name in _folders(located, path):
        if name not in found.names:
            found = found.append(pa.field(name, pa.string()))
    return found


def _with_folders(rows: pa.Table, folders: dict[str, str], names: list[str]) -> pa.Table:
    for name, value in folders.items():
        if name in names:
            rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
    return rows.select(names)


def _parquet_chunks(located: Located, path: str, names: list[str]) -> Iterator[Chunk]:
    first = 0
    with located.filesystem.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(ROWS_PER_CHUNK, columns=names):
            yield Chunk(path, first, pa.Table.from_batches([batch]), None)
            first += len(batch)


def _csv_names(located: Located, path: str) -> list[str]:
    with _open_csv(located, path, {}, lambda row: "skip") as reader:
        return [str(name) for name in reader.schema.names]


def _csv_chunks(located: Located, path: str, names: list[str]) -> Iterator[Chunk]:
    skipped: list[Any] = []
    known = dict.fromkeys(_csv_names(located, path), pa.string())
    first = 0

    def skip(row: Any) -> str:
        skipped.append(row)
        return "skip"

    with _open_csv(located, path, known, skip) as reader:
        for batch in reader:
            malformed = _malformed(skipped)
            skipped.clear()
            yield Chunk(path, first, pa.Table.from_batches([batch]).select(names), malformed)
            first += len(batch)
    if skipped:
        nothing = pa.schema([(name, pa.string()) for name in names]).empty_table()
        yield Chunk(path, first, nothing, _malformed(skipped))


def _malformed(skipped: list[Any]) -> Malformed | None:
    if not skipped:
        return None
    examples = [(row.number, str(row.text)) for row in skipped[:EXAMPLES]]
    return Malformed(len(skipped), skipped[0].expected_columns, examples)


def _open_csv(located: Located, path: str, types: dict[str, Any], on_malformed: Callable[[Any], str]) -> Any:
    config = located.config
    file = located.filesystem.open(path, "rb", compression="infer")
    delimiter = "\t" if config.delimiter == "," and ".tsv" in PurePosixPath(path).suffixes else config.delimiter
    return csv.open_csv(
        file,
        # One thread: only so are line numbers known.
        csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES, encoding=config.encoding),
        csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_malformed),
        csv.ConvertOptions(column_types=types, null_values=list(config.nulls), strings_can_be_null=True),
    )


def _unreadable(located: Located, path: str, error: Exception) -> DataError:
    remedy = "correct the file, or say what it is in data.{0}: format, delimiter, encoding"
    if "UTF8" in str(error) or isinstance(error, UnicodeError):
        remedy = 'its text is not in that encoding: set data.{0}.encoding, such as "latin-1"'
    return DataError(f"{path}: not readable as {located.format} ({error}); {remedy.format(located.table)}")
