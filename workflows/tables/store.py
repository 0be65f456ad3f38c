"""The three tables that every source yields, valid or not written at all, in memory or part by part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.files import atomic_directory
from workflows.tables.validation import InteractionsCheck, check_items, check_users

PART_ROWS: Final = 500_000
"""Rows of one part of the interactions: what is worked on at a time, so it bounds memory."""


@dataclass(frozen=True)
class Tables:
    """Interactions, users and items in memory, checked when constructed; rows are 0..n-1 in the order of the source.

    interactions: `user_id`, `item_id` (int64 or str), `rating` float32, `timestamp` int64 seconds since 1970, then any
    columns. users: `user_id`, unique, then any columns. items: `item_id`, unique, `title` str, then any columns.
    Any column holds numbers, str or None, or lists. Ids have the same type in every table.

    Raises
    ------
    DataError
        A column is missing, of a wrong type, null, out of range or duplicated, or refers to a row that does not
        exist; names table, column, row, value, expectation and remedy.
    """

    interactions: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame

    def __post_init__(self) -> None:
        check_users(self.users)
        check_items(self.items)
        InteractionsCheck(self.users, self.items).check(self.interactions)

    def save(self, directory: Path) -> None:
        """Write what `load` and `open_tables` read: the directory appears whole or not at all."""
        with atomic_directory(directory) as temporary:
            _write_parts(temporary, [self.interactions])
            _write_entities(temporary, self.users, self.items)

    @classmethod
    def load(cls, directory: Path) -> Tables:
        """Read what `save` or `write_tables` wrote into memory and validate it again.

        Raises
        ------
        DataError
            A file is missing, is not readable parquet, or holds an invalid table; names the file.
        """
        stored = open_tables(directory)
        try:
            return cls(stored.read(), stored.users, stored.items)
        except DataError as error:
            raise DataError(f"{directory}: {error}") from None


class Stored(NamedTuple):
    """Tables on disk: the interactions in parts, which are read one at a time."""

    directory: Path
    parts: list[Path]
    """Files of interactions, in the order of the source."""
    rows: list[int]
    """How many rows each part has."""
    users: pd.DataFrame
    items: pd.DataFrame

    def read(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Return all interactions, or some of their columns."""
        return pd.concat([read_part(path, columns) for path in self.parts], ignore_index=True)


def write_tables(
    directory: Path, interactions: Iterable[pd.DataFrame], users: pd.DataFrame, items: pd.DataFrame
) -> int:
    """Write tables whose interactions come in chunks and need not fit in memory; return how many there were.

    The parts that are written, and so everything made of them, do not depend on how the rows were cut into chunks.
    Every chunk has the columns of the first, of the same types. The directory appears whole or not at all.

    Raises
    ------
    DataError
        As for `Tables`, with rows counted over all chunks; or a chunk has other columns than the first.
    """
    check_users(users)
    check_items(items)
    check = InteractionsCheck(users, items)
    with atomic_directory(directory) as temporary:
        _write_parts(temporary, _checked(interactions, check))
        _write_entities(temporary, users, items)
    return check.rows


def open_tables(directory: Path) -> Stored:
    """Open what `write_tables` wrote; users and items are read and checked, interactions are not.

    Raises
    ------
    DataError
        A file is missing, is not readable parquet, or holds invalid users or items; names the file.
    """
    parts = sorted((directory / "interactions").glob("*.parquet"))
    if not parts:
        raise DataError(f"{directory / 'interactions'}: no parts in it; run `retrieval fetch --force` to make them")
    rows = [int(_opened(path).metadata.num_rows) for path in parts]
    users, items = (read_part(directory / f"{table}.parquet") for table in ("users", "items"))
    try:
        check_users(users)
        check_items(items)
    except DataError as error:
        raise DataError(f"{directory}: {error}") from None
    return Stored(directory, parts, rows, users, items)


def read_part(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Return users, items or one part of the interactions, or some columns, rows 0..n-1; raise as `open_tables`."""
    return to_frame(read_arrow(path, columns))


def read_arrow(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return what is in a file of the tables; raise DataError as `open_tables`."""
    try:
        return _opened(path).read(columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error}); run `retrieval fetch` again") from None


def to_frame_of_dictionaries(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as pandas has it, text as categoricals."""
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            encoded = table.column(number).combine_chunks().dictionary_encode()
            table = table.set_column(number, field.name, encoded)
    return to_frame(table)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return an Arrow table as pandas has it, lists as Python lists."""
    frame = table.to_pandas(use_threads=False)
    for field in table.schema:
        if pa.types.is_nested(field.type):
            values = frame[field.name]
            lists = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
            frame[field.name] = pd.Series(lists, index=frame.index, dtype=object)
    return frame


def merge_items(tables: Tables, *columns: str) -> Tables:
    """Make items that agree in all `columns` one item: the first of them in file order, whose id the interactions take.

    Every interaction stays, in its order. Items with a null among these values agree with nobody.

    Raises
    ------
    DataError
        The items have no such column, or it holds lists.
    """
    items, by = tables.items, list(columns)
    for column in by:
        if column not in items.columns:
            known = ", ".join(map(str, items.columns))
            raise DataError(f"items: no column {column!r} to merge on; set merge_items_on to some of {known}")
        if any(isinstance(value, list) for value in items[column]):
            raise DataError(f"items: column {column!r} holds lists; set merge_items_on to columns of single values")
    later = items.duplicated(by) & items[by].notna().all(axis=1)
    if not later.any():
        return tables
    firsts = items.dropna(subset=by).groupby(by)[Columns.Item].transform("first")
    heirs = pd.Series(firsts[later[later].index].to_numpy(), index=items.loc[later, Columns.Item])
    ids = tables.interactions[Columns.Item].copy()
    orphaned = ids.isin(heirs.index)
    ids[orphaned] = heirs.loc[ids[orphaned]].to_numpy()
    return Tables(tables.interactions.assign(**{Columns.Item: ids}), tables.users, items[~later].reset_index(drop=True))


def _checked(chunks: Iterable[pd.DataFrame], check: InteractionsCheck) -> Iterator[pd.DataFrame]:
    for chunk in chunks:
        if len(chunk):
            check.check(chunk)
            yield chunk
    if not check.rows:
        raise DataError("interactions: has no rows; expected at least one; check the source")


def _write_parts(directory: Path, chunks: Iterable[pd.DataFrame]) -> None:
    """Write chunks of any size as parts of `PART_ROWS` rows."""
    (directory / "interactions").mkdir()
    for number, part in enumerate(_cut(_as_arrow(chunks))):
        pq.write_table(part, directory / "interactions" / f"part-{number:05d}.parquet", row_group_size=PART_ROWS)


def _write_entities(directory: Path, users: pd.DataFrame, items: pd.DataFrame) -> None:
    for name, frame in (("users", users), ("items", items)):
        frame.to_parquet(directory / f"{name}.parquet", engine="pyarrow", index=False)


def _as_arrow(chunks: Iterable[pd.DataFrame]) -> Iterator[pa.Table]:
    """Every chunk as an Arrow table of the first one's schema; a column without a value there is of strings."""
    schema, first = None, 0
    for chunk in chunks:
        if schema is None:
            schema = _known_types(pa.Schema.from_pandas(chunk, preserve_index=False))
        if list(chunk.columns) != schema.names:
            names = ", ".join(map(str, chunk.columns))
            raise DataError(f"interactions: row {first} and on have the columns {names}, not {', '.join(schema.names)}")
        try:
            yield pa.Table.from_pandas(chunk, schema=schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise DataError(
                f"interactions: row {first} and on have another type than the rows before: {' '.join(error.args)}; "
                "give the column one type"
            ) from None
        first += len(chunk)


def _known_types(schema: pa.Schema) -> pa.Schema:
    for number, field in enumerate(schema):
        if pa.types.is_null(field.type):
            schema = schema.set(number, field.with_type(pa.string()))
        elif pa.types.is_list(field.type) and pa.types.is_null(field.type.value_type):
            schema = schema.set(number, field.with_type(pa.list_(pa.string())))
    return schema


def _cut(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of `tables` in tables of `PART_ROWS` rows, the last one shorter."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= PART_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, PART_ROWS)
            waiting = [joined.slice(PART_ROWS)]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run `retrieval fetch` to make it") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error}); run `retrieval fetch` again") from None


def shared_index(values: Any) -> pd.Index:
    """Return an index of unique values whose hash table is made: pandas makes it at the first look-up, and another
    thread that looks something up meanwhile is told that the values are not unique."""
    index = pd.Index(values)
    index.get_indexer(index[:1])
    return index
