"""Tables that are in memory, whichever library they are of, as files of a run."""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.errors import DataError
from workflows.files import writing


def path_of(table: Any, role: str, folder: Path) -> str:
    """Return where a table is: its own path, or that of the Parquet file in `folder` that it is written to.

    A file that holds the same already is left as it is, so that a run of it goes on.

    Raises
    ------
    DataError
        It is no table, has no rows, or has a column that Parquet cannot hold; names it by its `role`.
    """
    if isinstance(table, (str, Path)):
        return str(table)
    rows, path = _plain(arrow_of(table, role)), folder / f"{role}.parquet"
    if not len(rows):
        raise DataError(f"{role}: has no rows; expected a table with rows")
    with writing(path):
        _write(rows, path, role)
    return str(path)


def _plain(rows: pa.Table) -> pa.Table:
    """Return a table as every library would write it: without its own notes, texts of one type."""
    fields = [field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field for field in rows.schema]
    try:
        return rows.cast(pa.schema(fields)).replace_schema_metadata(None)
    except pa.ArrowInvalid:  # more text in a chunk than the smaller type holds
        return rows.replace_schema_metadata(None)


def _write(rows: pa.Table, path: Path, role: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    try:
        pq.write_table(rows, temporary)
        if not path.exists() or not filecmp.cmp(path, temporary, shallow=False):
            temporary.replace(path)
    except pa.ArrowException as error:
        raise DataError(f"{role}: Parquet cannot hold it ({error}); leave that column out") from None
    finally:
        temporary.unlink(missing_ok=True)


def arrow_of(table: Any, role: str) -> pa.Table:
    """Return a table of pandas, polars or pyarrow, or any other with `to_arrow` or Arrow's stream, as an Arrow table.

    Raises
    ------
    DataError
        It is none, or a column holds values of several types.
    """
    import pandas as pd

    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pd.DataFrame):
        return _of_pandas(table, role)
    if callable(getattr(table, "to_arrow", None)):  # polars, DuckDB, cuDF
        columns = table.to_arrow()
        return columns if isinstance(columns, pa.Table) else pa.Table.from_batches(columns)
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    remedy = ".collect() it" if hasattr(table, "collect") else "expected one of pandas, polars or pyarrow, or a path"
    raise DataError(f"{role}: a {type(table).__module__}.{type(table).__qualname__} is no table; {remedy}")


def _of_pandas(frame: Any, role: str) -> pa.Table:
    """Return a pandas frame without its index, unless that has a name: then it is a column."""
    named = [name for name in frame.index.names if name is not None]
    if both := [name for name in named if name in frame.columns]:
        raise DataError(f"{role}: its index and a column are both called {both[0]!r}; reset_index(drop=True) drops one")
    frame = frame.reset_index() if named else frame
    if frame.columns.nlevels > 1:
        raise DataError(f"{role}: its columns have {frame.columns.nlevels} levels; flatten them")
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{role}: two columns are called {twice[0]!r}; rename one of them")
    columns = {name: _column(frame[name], role) for name in frame.columns}
    return pa.table(columns)


def _column(values: Any, role: str) -> pa.Array:
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{role}: column {values.name!r} holds values that do not go together or that no table holds ({reason}); "
            f"convert it, such as to text: {role}[{values.name!r}].astype(str)"
        ) from None
