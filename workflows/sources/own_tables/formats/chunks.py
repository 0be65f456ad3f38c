"""Every file of one of the user's tables as Arrow tables, a chunk at a time, whatever its format is."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterator
from functools import partial
from lzma import LZMAError
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from workflows.errors import DataError
from workflows.sources.own_tables.derived import derived, sources_of, with_joined
from workflows.sources.own_tables.formats.files import Chunk, Located, folders
from workflows.sources.own_tables.formats.stores import stored_chunks, stored_schema
from workflows.sources.own_tables.formats.text import UNHEADED, line_of, text_chunks, text_schema

TEXT: Final = ("csv", *UNHEADED)
"""Formats whose every value is text."""
DAMAGED: Final = (OSError, pa.ArrowException, UnicodeError, EOFError, LZMAError, zipfile.BadZipFile, sqlite3.Error)
"""What reading raises for a file that is damaged, or not what it is taken for; and `duckdb.Error`."""


def schema(located: Located) -> pa.Schema:
    """Return the columns of the first file, by its names; folders called `name=value` are columns of text.

    Raises
    ------
    DataError
        It cannot be read, two columns have one name, or another file has other columns.
    """
    fields = _schema(located, located.paths[0])
    twice = {name for name in fields.names if fields.names.count(name) > 1}
    if twice:
        raise DataError(
            f"{located.paths[0]}: two columns are called {min(twice)!r}; rename one of them, or name all columns in "
            f"data.{located.table}.names"
        )
    for path in located.paths[1:]:
        part_schema = _schema(located, path)
        if set(part_schema.names) != set(fields.names):
            differing = sorted(set(part_schema.names) ^ set(fields.names))
            raise DataError(
                f"{path}: has not the same columns as {located.paths[0]} ({', '.join(map(repr, differing))} in one "
                f"only); a table's files must have the same: bring it to their form, or leave it out"
            )
    return fields


def chunks(located: Located, names: list[str]) -> Iterator[Chunk]:
    """Read columns of all files in order, at most a few megabytes at a time.

    Raises
    ------
    DataError
        A file is damaged, or is not what its name says.
    """
    read = text_chunks if located.format in TEXT else stored_chunks
    for path in located.paths:
        named = folders(located, path)
        stored_names = [name for name in names if name not in named]
        columns = sources_of(located.config, stored_names)
        try:
            for chunk in read(located, path, columns):
                rows = _exploded(located, derived(located.config, chunk.rows, stored_names))
                chunk = chunk._replace(rows=_with_folders(rows, named, names))
                counted = located.format == "csv" and located.config.explode is None
                yield chunk._replace(line_of=partial(line_of, located, path)) if counted else chunk
        except _damaged() as error:
            raise _unreadable(located, path, error) from None


def _schema(located: Located, path: str) -> pa.Schema:
    try:
        fields = (text_schema if located.format in TEXT else stored_schema)(located, path)
    except _damaged() as error:
        raise _unreadable(located, path, error) from None
    for name in folders(located, path):
        if name not in fields.names:
            fields = fields.append(pa.field(name, pa.string()))
    fields = with_joined(located, fields, path)
    column = located.config.explode
    if column is None:
        return fields
    if column not in fields.names:
        available = ", ".join(fields.names)
        raise DataError(f"data.{located.table}.explode: {path} has no column {column!r}; there are: {available}")
    entries = _entries(located, fields.empty_table().column(column)).type.value_type
    return fields.set(fields.get_field_index(column), pa.field(column, entries))


def _exploded(located: Located, rows: pa.Table) -> pa.Table:
    """Return a row for each entry of the lists of the column that the recipe says."""
    column = located.config.explode
    if column is None or column not in rows.column_names:
        return rows
    lists = _entries(located, rows.column(column)).combine_chunks()
    row, entries, end = pc.list_parent_indices(lists), pc.list_flatten(lists), located.config.explode_only
    if end:
        matching = pc.ends_with(entries, end)
        row, entries = row.filter(matching), pc.utf8_slice_codeunits(entries.filter(matching), 0, -len(end))
    exploded = rows.take(row)
    return exploded.set_column(exploded.schema.get_field_index(column), column, entries)


def _entries(located: Located, values: Any) -> Any:
    """Return a column of lists; of text its entries without blanks, quotes and brackets around them."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return values
    config = located.config
    ours = next((name for name, theirs in config.columns.items() if theirs == config.explode), config.explode)
    separator = config.lists.get(str(ours))
    if not pa.types.is_string(values.type) or separator is None:
        raise DataError(
            f"data.{located.table}.explode: column {config.explode!r} holds {values.type}; expected lists, or text for "
            f'which data.{located.table}.lists = {{ {ours} = "," }} says what stands between the entries'
        )
    texts = pc.replace_substring_regex(pc.fill_null(values, ""), r"[\[\](){}'\"]", "")
    texts = pc.utf8_trim_whitespace(texts)
    lists = pc.split_pattern(texts, separator)
    parts = [pa.ListArray.from_arrays(chunk.offsets, pc.utf8_trim_whitespace(chunk.values)) for chunk in lists.chunks]
    return pa.chunked_array(parts, pa.list_(pa.string()))


def _with_folders(rows: pa.Table, named: dict[str, str], names: list[str]) -> pa.Table:
    for name, value in named.items():
        if name in names:
            rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
    return rows.select(names)


def _damaged() -> tuple[type[Exception], ...]:
    import duckdb

    return (*DAMAGED, duckdb.Error)


def _unreadable(located: Located, path: str, error: Exception) -> DataError:
    remedy = "correct the file, or say what it is in data.{0}: format, delimiter, encoding"
    if "UTF8" in str(error) or isinstance(error, UnicodeError):
        remedy = 'its text is not in that encoding: set data.{0}.encoding, such as "latin-1"'
    reason = " ".join(str(error).split("\n\n")[0].split())
    return DataError(f"{path}: not readable as {located.format} ({reason}); {remedy.format(located.table)}")
