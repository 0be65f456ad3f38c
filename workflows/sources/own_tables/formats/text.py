"""Delimited text, read a block at a time with pyarrow: every value stays text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import EXAMPLES, Chunk, Located, Malformed
from workflows.sources.own_tables.formats.streams import (
    UNIT,
    Lines,
    block_rows,
    open_plain,
    pairs,
    with_one_delimiter,
    without_runs,
)

BLOCK_BYTES: Final = 8 << 20
UNHEADED: Final = {"adjacency": ("user_id", "item_id"), "netflix": ("item_id", "user_id", "rating", "date")}
"""Names of the columns that formats of their own have."""
SWALLOWED: Final = 3
"""So many lines in one value that look like rows are rows, behind a quote that nobody closed."""


def text_schema(located: Located, path: str) -> pa.Schema:
    """Return the columns, all of text; those called "" are left out."""
    return pa.schema([(name, pa.string()) for name in column_names(located, path) if name])


def text_chunks(located: Located, path: str, names: list[str]) -> Iterator[Chunk]:
    """Read columns of a file; lines of another number of fields are told of and left out.

    Raises
    ------
    DataError
        A quote that nobody closed makes one value of many lines.
    """
    skipped: list[Any] = []
    all_names = column_names(located, path)
    first = 0

    def skip(row: Any) -> str:
        skipped.append(row)
        return "skip"

    with _opened(located, path, all_names, skip) as reader:
        for batch in reader:
            _check_closed(located, path, len(all_names), chain(_with_breaks(batch, first), _lines(skipped)))
            malformed = _malformed(skipped)
            skipped.clear()
            columns = [batch.column(all_names.index(name)) for name in names]
            yield Chunk(path, first, pa.Table.from_arrays(columns, names), malformed)
            first += len(batch)
    if skipped:
        _check_closed(located, path, len(all_names), _lines(skipped))
        nothing = pa.schema([(name, pa.string()) for name in names]).empty_table()
        yield Chunk(path, first, nothing, _malformed(skipped))


def _with_breaks(batch: Any, first: int) -> Iterator[tuple[str, str]]:
    """Yield where they are and what they hold: values of several lines."""
    for values in batch.columns:
        several = pc.match_substring(values, "\n")
        if pc.any(several).as_py():
            rows = pc.indices_nonzero(several).to_pylist()
            yield from ((f"row {first + row:,}", values[row].as_py()) for row in rows)


def _lines(skipped: Iterable[Any]) -> Iterator[tuple[str, str]]:
    return ((f"line {row.number:,}", str(row.text)) for row in skipped)


def _check_closed(located: Located, path: str, fields: int, texts: Iterable[tuple[str, str]]) -> None:
    """Raise DataError where lines inside a value are rows by their delimiters."""
    delimiter = delimiter_of(located, path)
    for where, text in texts if located.config.quote else ():
        inner = text.splitlines()[1:-1]
        if len(inner) >= SWALLOWED and all(line.count(delimiter) == fields - 1 for line in inner):
            raise DataError(
                f"{path}, {where}: {len(inner) + 2:,} lines are one value, {text[:60]!r} ..., because a quote "
                f"({located.config.quote}) is opened and not closed; correct it there, or set "
                f'data.{located.table}.quote = "" where quotes are part of the values'
            )


@contextmanager
def _opened(
    located: Located, path: str, names: list[str], on_malformed: Callable[[Any], str]
) -> Iterator[Iterable[Any]]:
    """Yield the batches of a file: none where there is nothing after the header, which pyarrow refuses."""
    try:
        reader = _open(located, path, names, on_malformed)
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise
        yield ()
        return
    with reader:
        yield reader


def column_names(located: Located, path: str) -> list[str]:
    """Return the names of a file's columns, those that are not read among them."""
    config = located.config
    if names := config.names or UNHEADED.get(located.format):
        return list(names)
    with _open(located, path, [], lambda row: "skip") as reader:
        headings = [str(name).strip() for name in reader.schema.names]
    return headings if config.header else [f"column{number}" for number in range(len(headings))]


def line_of(located: Located, path: str, row: int) -> int | None:
    """Return the line, from 1, on which a row of a file, from 0, begins; None where that cannot be told.

    Blank lines, lines inside quotes and those with another number of fields are counted as lines and not as rows.
    """
    config, fields = located.config, len(column_names(located, path))
    quoting = csv.QUOTE_MINIMAL if config.quote else csv.QUOTE_NONE
    try:
        with io.TextIOWrapper(open_text(located, path), config.encoding, errors="replace", newline="") as text:
            skipped = len([*islice(text, config.skip_lines)])
            reader = csv.reader(
                text,
                delimiter=delimiter_of(located, path),
                quotechar=config.quote or None,
                quoting=quoting,
                escapechar=config.escape or None,
                doublequote=not config.escape,
            )
            begins, left = skipped + 1, row + 1 + config.header
            for row_fields in reader:
                left -= len(row_fields) == fields
                if not left:
                    return begins
                begins = skipped + reader.line_num + 1
    except (csv.Error, OSError, ValueError):
        pass
    return None


def _open(located: Located, path: str, names: list[str], on_malformed: Callable[[Any], str]) -> Any:
    config = located.config
    headed = config.header and located.format == "csv"
    # Columns may share a name in the file, or have none: they are counted here, and named by the caller.
    counted = [str(number) for number in range(len(names))]
    return arrow_csv.open_csv(
        open_text(located, path),
        # One thread: only so are line numbers known.
        arrow_csv.ReadOptions(
            use_threads=False,
            block_size=BLOCK_BYTES,
            encoding=config.encoding,
            skip_rows=config.skip_lines + (headed and bool(names)),
            column_names=counted or None,
            autogenerate_column_names=not headed and not names,
        ),
        arrow_csv.ParseOptions(
            delimiter=delimiter_of(located, path),
            quote_char=config.quote or False,
            escape_char=config.escape or False,
            newlines_in_values=bool(config.quote),
            invalid_row_handler=on_malformed,
        ),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(counted, pa.string()),
            null_values=list(config.nulls),
            strings_can_be_null=True,
        ),
    )


def delimiter_of(located: Located, path: str) -> str:
    """Return what stands between fields in what `open_text` opens."""
    delimiter = located.config.delimiter
    if located.format != "csv":
        return ","
    if len(delimiter) > 1 or _has_runs(located):
        return UNIT.decode()
    return "\t" if delimiter == "," and {".tsv", ".inter"} & set(PurePosixPath(path).suffixes) else delimiter


def open_text(located: Located, path: str) -> Any:
    """Open a file as delimited text with a delimiter of one character."""
    file, delimiter = open_plain(located.filesystem, path), located.config.delimiter.encode()
    if located.format == "adjacency":
        return io.BufferedReader(Lines(pairs(file, delimiter)), BLOCK_BYTES)
    if located.format == "netflix":
        return io.BufferedReader(Lines(block_rows(file)), BLOCK_BYTES)
    if _has_runs(located):
        return io.BufferedReader(Lines(without_runs(file)), BLOCK_BYTES)
    if len(delimiter) == 1:
        return file
    if located.config.encoding.lower().startswith("utf-16"):
        raise DataError(f"{path}: a delimiter of several characters is not read in UTF-16; save it as UTF-8")
    return io.BufferedReader(Lines(with_one_delimiter(file, delimiter)), BLOCK_BYTES)


def _has_runs(located: Located) -> bool:
    """Return whether fields are aligned with any number of spaces."""
    return located.config.delimiter == " " and not located.config.quote


def _malformed(skipped: list[Any]) -> Malformed | None:
    if not skipped:
        return None
    examples = [(row.number, str(row.text)) for row in skipped[:EXAMPLES]]
    return Malformed(len(skipped), skipped[0].expected_columns, examples)
