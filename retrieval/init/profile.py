"""What columns of unknown tables hold, as far as their first rows show it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from workflows.errors import DataError
from workflows.sources.own_tables.files import Located, chunks, locate, schema
from workflows.sources.own_tables.types import cast, guess, kind_of
from workflows.tables.config import TableFile

NULL_WORDS: Final = ("\\N", "NULL")
"""They stand for null wherever they are."""
FEW_WORDS: Final = 3
MOST_NULLS: Final = 0.5
"""So few words, in so few of the rows, among numbers stand for null, too."""
CHUNKS: Final = 4
"""Of each table, at most about half a million rows."""
DELIMITERS: Final = ",;\t|"
SNIFFED_BYTES: Final = 1 << 18


@dataclass(frozen=True)
class Profile:
    """A column of a table."""

    table: str
    name: str
    """As the file calls it."""
    dtype: str
    """integer, float, string, datetime, list, or what pyarrow calls a type that tables cannot hold."""
    values: pd.Series
    """Those that are not null: int64, float64, str, seconds as int64, or lists."""
    rows: int
    nulls: int
    distinct: int
    null_words: tuple[str, ...] = ()
    """Words that seem to stand for null in it."""

    @property
    def is_unique(self) -> bool:
        """Whether every row has its own value."""
        return self.nulls == 0 and self.distinct == self.rows


@dataclass(frozen=True)
class Sampled:
    """A table: where it is, how it is to be read, and its columns."""

    table: str
    file: TableFile
    files: int
    columns: list[Profile]
    rows: int
    whole: bool
    """Whether these are all of its rows."""
    notes: list[str]
    """What was found out about how it is to be read."""

    def column(self, name: str) -> Profile:
        """Return a column by its name in the file."""
        return next(one for one in self.columns if one.name == name)


def sample(path: str, table: str, directory: Path) -> Sampled:
    """Read the first rows of a table that nothing is known of but its address, relative to `directory`.

    Raises
    ------
    DataError
        It cannot be read, or has no rows.
    """
    address = path if "://" in path else str((directory / Path(path).expanduser()).absolute())
    located = locate(TableFile(path=address), table)
    notes: list[str] = []
    if located.format == "csv":
        located = locate(_sniffed(located, notes), table)
    found = schema(located)
    read = list(islice(chunks(located, found.names), CHUNKS + 1))
    if not sum(len(chunk.rows) for chunk in read):
        raise DataError(f"{path}: has no rows; --{table} needs a table with rows")
    for chunk in read:
        if chunk.malformed:
            notes.append(f"lines with another number of fields than the header: {chunk.malformed.lines:,}")
    rows = pa.concat_tables([chunk.rows for chunk in read[:CHUNKS]], promote=True)
    columns = [_profile(table, name, rows.column(name), located) for name in found.names]
    whole = len(read) <= CHUNKS
    return Sampled(table, located.config, len(located.paths), columns, len(rows), whole, notes)


def _sniffed(located: Located, notes: list[str]) -> TableFile:
    """Find out encoding and delimiter of a CSV file."""
    with located.filesystem.open(located.paths[0], "rb", compression="infer") as file:
        head = file.read(SNIFFED_BYTES)
    options: dict[str, Any] = {}
    try:
        text = head[: head.rfind(b"\n") + 1 or None].decode("utf-8-sig")
    except UnicodeDecodeError:
        options["encoding"] = "latin-1"
        notes.append("its text is not UTF-8, so latin-1 is taken")
        text = head.decode("latin-1")
    delimiter = _delimiter(text)
    if delimiter != "," and not (delimiter == "\t" and ".tsv" in located.paths[0]):
        options["delimiter"] = delimiter
        notes.append(f"its fields are separated by {delimiter!r}")
    given = {"path": located.config.path, **options}
    return TableFile(**given)


def _delimiter(text: str) -> str:
    """Return the delimiter that gives the first lines equally many fields, as many as possible."""
    best, most = ",", 1
    for delimiter in DELIMITERS:
        lines = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), 20))
        widths = [len(line) for line in lines if line]
        if widths and widths.count(widths[0]) >= 0.9 * len(widths) and widths[0] > most:
            best, most = delimiter, widths[0]
    return best


def _profile(table: str, name: str, column: pa.ChunkedArray, located: Located) -> Profile:
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    words: tuple[str, ...] = ()
    if located.format == "csv":
        array, words = _without_null_words(array)
        kind: Any = guess(array.to_pylist())
    else:
        kind = kind_of(array.type)
    if kind is None:
        return Profile(table, name, str(array.type), pd.Series(dtype=object), len(array), array.null_count, 0)
    done = cast(array, kind).values
    values = done.drop_null().to_pandas()
    if kind == "list":
        values = values.map(lambda row: row.tolist() if isinstance(row, np.ndarray) else row)
    distinct = values.map(repr).nunique() if kind == "list" else values.nunique()
    return Profile(table, name, kind, values, len(array), int(done.null_count), int(distinct), words)


def _without_null_words(array: pa.Array) -> tuple[pa.Array, tuple[str, ...]]:
    """Return text without the words for null: a few words among numbers; `\\N`, NULL everywhere."""
    values = array.to_pandas()
    words = {word for word in NULL_WORDS if (values == word).any()}
    given = values.dropna()
    number = given.map(lambda value: guess([value]) != "string")
    strange = given[~number].value_counts()
    # Without digits: a postal code such as 01067 is text for another reason.
    wordy = not any(char.isdigit() for word in strange.index for char in str(word))
    if wordy and len(strange) <= FEW_WORDS and 0 < len(given) - number.sum() <= MOST_NULLS * len(given):
        words |= {str(word) for word in strange.index}
    if not words:
        return array, ()
    kept = values.where(~values.isin(words), None)
    return pa.array(kept.to_numpy(dtype=object), pa.string(), from_pandas=True), tuple(sorted(words))
