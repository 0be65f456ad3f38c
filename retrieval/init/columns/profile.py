"""What columns of unknown tables hold, as far as their first rows show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from workflows.errors import DataError
from workflows.sources.own_tables.derived import COMMA_NUMBER, is_amount
from workflows.sources.own_tables.formats.chunks import TEXT, chunks, schema
from workflows.sources.own_tables.formats.files import Chunk, Located, locate
from workflows.sources.own_tables.formats.sniff import sniff
from workflows.sources.own_tables.types import cast, guess, kind_of, needs_text
from workflows.tables.config import Format, TableFile

NULL_WORDS: Final = ("\\N", "NULL", "null", "NaN", "nan", "N/A", "#N/A")
"""They stand for null wherever they are."""
DOUBTFUL: Final = ("NA", "None", "none", "?", "-")
"""They may stand for null where they are; an occupation may be none, and Namibia is NA."""
FEW_WORDS: Final = 3
MOST_NULLS: Final = 0.5
"""So few words, in so few of the rows, among numbers stand for null, too."""
FEW_OBJECTS: Final = 1_000
OBJECTS: Final = 0.95
"""Share of so many values that are objects where a column holds objects."""
SAMPLED_ROWS: Final = 500_000
"""About so many rows of each table are looked at."""


class Given(NamedTuple):
    """What the user says of how a table is to be read; None: nothing."""

    format: Format | None = None
    table: str | None = None
    """Of a database."""
    delimiter: str | None = None
    header: bool | None = None
    rows: int = SAMPLED_ROWS
    """That are looked at."""
    encoding: str | None = None
    """Of text."""


@dataclass(frozen=True)
class Profile:
    """A column of a table."""

    table: str
    name: str
    """As the file calls it."""
    dtype: str
    """integer, float, string, datetime, list, or what pyarrow calls a type that tables cannot hold."""
    values: pd.Series
    """Those that are not null, by their rows: int64, float64, str, seconds as int64, or lists."""
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
        return next(column for column in self.columns if column.name == name)


class Found(NamedTuple):
    """What a column is."""

    column: Profile
    role: str
    """Our name of it."""
    why: str
    unit: str | None = None
    """Of a timestamp."""


def numbers(column: Profile) -> pd.Series:
    """Return a column's numbers, also those that are text; null where there is none."""
    return pd.to_numeric(column.values, errors="coerce")


def holds_objects(column: Profile) -> bool:
    """Return whether values, or the entries of lists, are objects of JSON or structs of Arrow."""
    if column.dtype == "list":
        entries = column.values.iloc[:FEW_OBJECTS].explode().dropna().astype(str)
    elif column.dtype == "string":
        entries = column.values.iloc[:FEW_OBJECTS].astype(str)
    else:
        return "struct<" in column.dtype
    return len(entries) > 0 and bool(entries.str.fullmatch(r"\{.*\}", flags=re.DOTALL).mean() > OBJECTS)


def address(path: str, directory: Path) -> str:
    """Return a path that is relative to `directory` as an absolute one; addresses stay as they are."""
    return path if "://" in path else str((directory / Path(path).expanduser()).absolute())


def sample(path: str, table: str, directory: Path, given: Given) -> Sampled:
    """Read the first rows of a table that nothing is known of but its address, relative to `directory`; raise DataError
    where it cannot be read or has no rows."""
    place = address(path, directory)
    said: dict[str, Any] = {
        name: of for name in ("format", "table", "encoding") if (of := getattr(given, name)) is not None
    }
    located = locate(TableFile(path=place, **said), table)
    options, notes = sniff(located, given.delimiter, given.header)
    options = {"path": place, **said, **options}
    sampled = read_sample(locate(TableFile(**options), table), given.rows, notes)
    numbers = _numbers(sampled.columns)
    if not numbers:
        return sampled
    if "decimal" in numbers:
        notes = [*notes, "its numbers have a comma before the decimals"]
    return read_sample(locate(TableFile(**options, **numbers), table), given.rows, notes)


def _numbers(columns: list[Profile]) -> dict[str, Any]:
    """Return how numbers are written, where that is not the usual, as options of the table."""
    texts = [column for column in columns if column.dtype == "string" and len(column.values)]
    point, comma = ([column.name for column in texts if is_amount(pa.array(column.values), sign)] for sign in ".,")
    if any(map(_has_comma, columns)) or (comma and not point):
        return {"decimal": ","} | ({"amounts": tuple(comma)} if comma else {})
    return {"amounts": tuple(point)} if point else {}


def _has_comma(column: Profile) -> bool:
    """Return whether texts are numbers with a decimal comma: 1,5 is one, 1,234 may be a thousand."""
    if column.dtype != "string" or not len(column.values):
        return False
    values = column.values.astype(str)
    return bool(values.str.match(COMMA_NUMBER).all() and values.str.contains(r",(?:\d{1,2}|\d{4,})\s*$").any())


def read_sample(located: Located, most: int, notes: list[str]) -> Sampled:
    """Read at least `most` rows of a table, or all of them; raise DataError as `sample`."""
    fields = schema(located)
    names = [name for name in fields.names if name not in located.config.ignore]
    read: list[Chunk] = []
    rest = chunks(located, names)
    for chunk in rest:
        read.append(chunk)
        if sum(len(chunk.rows) for chunk in read) >= most:
            break
    if not sum(len(chunk.rows) for chunk in read):
        raise DataError(f"{located.config.path}: has no rows; --{located.table} needs a table with rows")
    whole = next(rest, None) is None
    if malformed := sum(chunk.malformed.lines for chunk in read if chunk.malformed):
        notes.append(f"lines with another number of fields than the first: {malformed:,}")
    rows = pa.concat_tables([chunk.rows for chunk in read], promote_options="default")
    columns = [_profile(located.table, name, rows.column(name), located) for name in names]
    notes += _doubtful(columns)
    return Sampled(located.table, located.config, len(located.paths), columns, len(rows), whole, notes)


def _doubtful(columns: list[Profile]) -> Iterator[str]:
    """Yield what may stand for null in texts, and is left as it is."""
    for column in columns:
        counts: Any = column.values.value_counts() if column.dtype == "string" else {}
        for word in DOUBTFUL:
            if word in counts and len(counts) > 2:
                rows = f"{counts[word]:,} rows"
                yield f'{column.name}: {word!r} ({rows}) may stand for null; if so: nulls = ["", "{word}"]'


def _profile(table: str, name: str, column: pa.ChunkedArray, located: Located) -> Profile:
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    words: tuple[str, ...] = ()
    if needs_text(array):
        kind: Any = "string"
    elif located.format in TEXT or name in located.config.amounts:
        array, words = _without_null_words(array)
        kind = guess(array.to_pylist())
    else:
        kind = kind_of(array.type)
        words = tuple(word for word in NULL_WORDS if kind == "string" and pc.any(pc.equal(array, word)).as_py())
    if kind is None:
        return Profile(table, name, str(array.type), pd.Series(dtype=object), len(array), array.null_count, 0)
    done = cast(array, kind).values
    values = done.drop_null().to_pandas()
    values.index = np.flatnonzero(done.is_valid().to_numpy(zero_copy_only=False))
    if kind == "list":
        values = values.map(lambda row: row.tolist() if isinstance(row, np.ndarray) else row)
    distinct = values.map(repr).nunique() if kind == "list" else values.nunique()
    return Profile(table, name, kind, values, len(array), int(done.null_count), int(distinct), words)


def _without_null_words(array: pa.Array) -> tuple[pa.Array, tuple[str, ...]]:
    """Return text without the words for null: a few words among numbers; `\\N`, NULL everywhere."""
    values = array.to_pandas()
    words = {word for word in NULL_WORDS if (values == word).any()}
    present = values.dropna()
    number = present.map(lambda value: guess([value]) != "string")
    strange = present[~number].value_counts()
    # Without digits: a postal code such as 01067 is text for another reason.
    wordy = not any(char.isdigit() for word in strange.index for char in str(word))
    few = len(present) - number.sum() <= MOST_NULLS * len(present) or set(strange.index) <= {*DOUBTFUL}
    if wordy and 0 < len(strange) <= FEW_WORDS and number.any() and few:
        words |= {str(word) for word in strange.index}
    if not words:
        return array, ()
    kept = values.where(~values.isin(words), None)
    return pa.array(kept.to_numpy(dtype=object), pa.string(), from_pandas=True), tuple(sorted(words))
