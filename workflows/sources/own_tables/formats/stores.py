"""Files that have types of their own: Parquet, Arrow, JSON, and tables of SQLite and DuckDB."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import feather

from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import ROWS_PER_CHUNK, Chunk, Located
from workflows.sources.own_tables.formats.streams import plain_copy

ISOLATED: Final[dict[str, Any]] = {"enable_external_access": "false", "autoload_known_extensions": "false"}
"""A database that is read opens no other file and loads nothing."""


@contextmanager
def batches(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    """Yield a file's columns, and record batches of those called `names` (None: of all)."""
    read = {"parquet": _parquet, "arrow": _arrow, "json": _json, "sqlite": _sqlite, "duckdb": _duckdb}[located.format]
    with read(located, path, names) as table:
        yield table


def stored_schema(located: Located, path: str) -> pa.Schema:
    """Return the columns of a file, with their types."""
    with batches(located, path, None) as (schema, _):
        return schema


def stored_chunks(located: Located, path: str, names: list[str]) -> Iterator[Chunk]:
    """Read columns of a file a batch at a time."""
    first = 0
    with batches(located, path, names) as (_, record_batches):
        for batch in record_batches:
            rows = pa.Table.from_batches([batch]).select(names)
            yield Chunk(path, first, _without_words(rows, located.config.nulls), None)
            first += len(batch)


def _without_words(rows: pa.Table, words: tuple[str, ...]) -> pa.Table:
    """Return rows with null for the texts that stand for it, as pyarrow reads delimited text."""
    for at, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type) and pa.types.is_string(field.type.value_type):
            rows = rows.set_column(at, field.name, rows.column(at).cast(pa.string()))
        if pa.types.is_string(rows.schema.field(at).type) or pa.types.is_large_string(field.type):
            texts = rows.column(at)
            given = pc.is_in(texts, pa.array(words, texts.type))
            if pc.any(given).as_py():
                rows = rows.set_column(at, field.name, pc.if_else(given, None, texts))
    return rows


@contextmanager
def _parquet(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    with located.filesystem.open(path, "rb") as file:
        opened = pq.ParquetFile(file)
        yield opened.schema_arrow, opened.iter_batches(ROWS_PER_CHUNK, columns=names)


@contextmanager
def _arrow(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    """Arrow's file format (Feather), its stream format, and the first version of Feather."""
    with plain_copy(located.filesystem, path) as copy:
        with Path(copy).open("rb") as file:
            head = file.read(6)
        if head == b"ARROW1":
            with pa.ipc.open_file(copy) as reader:
                yield reader.schema, (reader.get_batch(number) for number in range(reader.num_record_batches))
        elif head.startswith(b"FEA1"):
            table = feather.read_table(copy, memory_map=False)
            yield table.schema, iter(table.to_batches(ROWS_PER_CHUNK))
        else:
            with pa.OSFile(copy) as source, pa.ipc.open_stream(source) as reader:
                yield reader.schema, iter(reader)


@contextmanager
def _json(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    """Objects, one per line or in an array; text stays text, whatever it looks like."""
    import duckdb

    settings: dict[str, Any] = {"autoload_known_extensions": "false"}
    with plain_copy(located.filesystem, path) as copy, duckdb.connect(config=settings) as database:
        structure = "SELECT json_group_structure(json) FROM read_json_objects(?)"
        [(described,)] = database.execute(structure, [copy]).fetchall()
        columns = msgspec.json.decode(described or "{}")
        if not isinstance(columns, dict) or not columns:
            raise DataError(f"{path}: holds no JSON objects; expected one per line, or an array of them")
        types = ", ".join(f"{_literal(name)}: {_literal(_json_type(of))}" for name, of in columns.items())
        query = f"FROM read_json({_literal(copy)}, columns = {{{types}}})"
        yield _schema_of(database, query), _rows_of(database, query, names)


@contextmanager
def _duckdb(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    import duckdb

    with (
        plain_copy(located.filesystem, path) as copy,
        duckdb.connect(copy, read_only=True, config=ISOLATED) as database,
    ):
        tables = database.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY 1").fetchall()
        query = f"FROM {_quoted(_table(located, path, [name for (name,) in tables]))}"
        yield _schema_of(database, query), _rows_of(database, query, names)


@contextmanager
def _sqlite(located: Located, path: str, names: list[str] | None) -> Iterator[tuple[pa.Schema, Iterator[Any]]]:
    with (
        plain_copy(located.filesystem, path) as copy,
        closing(sqlite3.connect(f"{Path(copy).as_uri()}?mode=ro", uri=True)) as rows,
    ):
        listed = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
        table = _quoted(_table(located, path, [name for (name,) in rows.execute(listed)]))
        known = [name for _, name, *_ in rows.execute(f"PRAGMA table_info({table})")]
        schema = pa.schema(
            [(name, _sqlite_type(rows, table, name)) for name in known if names is None or name in names]
        )
        yield schema, _sqlite_batches(rows, table, schema)


def _sqlite_type(rows: sqlite3.Connection, table: str, name: str) -> pa.DataType:
    """Return a type for a column by its values: SQLite's columns hold what they are given."""
    query = f"SELECT DISTINCT typeof({_quoted(name)}) FROM {table}"
    storage = tuple(sorted(kind for (kind,) in rows.execute(query) if kind != "null"))
    types = {
        ("blob",): pa.binary(),
        ("integer",): pa.int64(),
        ("integer", "real"): pa.float64(),
        ("real",): pa.float64(),
    }
    return types.get(storage, pa.string())


def _sqlite_batches(rows: sqlite3.Connection, table: str, schema: pa.Schema) -> Iterator[Any]:
    expressions = ", ".join(
        f"CAST({_quoted(field.name)} AS TEXT)" if field.type == pa.string() else _quoted(field.name) for field in schema
    )
    cursor = rows.execute(f"SELECT {expressions} FROM {table}")
    while part := cursor.fetchmany(ROWS_PER_CHUNK):
        columns = zip(*part, strict=True)
        yield pa.record_batch(
            [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema
        )


def _table(located: Located, path: str, tables: list[str]) -> str:
    """Return the table of a database that is meant: the one that the recipe names, or the only one."""
    name, where = located.config.table, f"data.{located.table}.table"
    if name is None and len(tables) == 1:
        return tables[0]
    if name not in tables:
        available = ", ".join(tables) or "none"
        problem = f"has no table {name!r}" if name else f"holds {len(tables)} tables"
        raise DataError(
            f'{path}: {problem}; there are: {available}; set {where} = "..." (init: --table {located.table}=...)'
        )
    return name


def _schema_of(database: Any, query: str) -> pa.Schema:
    return database.sql(f"{query} LIMIT 0").to_arrow_table().schema


def _rows_of(database: Any, query: str, names: list[str] | None) -> Iterator[Any]:
    columns = "*" if names is None else ", ".join(map(_quoted, names))
    yield from database.sql(f"SELECT {columns} {query}").to_arrow_reader(ROWS_PER_CHUNK) if columns else ()


def _json_type(structure: Any) -> str:
    """Return DuckDB's type for what `json_group_structure` found; objects stay JSON text."""
    if isinstance(structure, list):
        return f"{_json_type(structure[0])}[]" if structure else "VARCHAR[]"
    if isinstance(structure, dict):
        return "JSON"
    return "VARCHAR" if structure == "NULL" else str(structure)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
