"""The items' raw columns: what `retrieval items` and `retrieval diff` read, and requests are not answered from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InvalidRelease
from ..query.transform import Column
from .arrays import read_column
from .parameters import Fields
from .release import Sealed
from .schema import MOST_ROWS, Schema, choice, integer, list_of, taken

FILE = "items/columns.json"
ARRAYS = "items/columns/{:02d}"
"""The arrays of a column, by its place in the `columns` of the file: as those of the users' columns are called."""
DTYPES = ("int64", "float64", "string", "bool")
_SCHEMA: Schema = {
    "format": integer(1, 1),
    "rows": integer(0, MOST_ROWS),
    "columns": list_of({"name": Fields.text, "dtype": choice(*DTYPES), "list": Fields.flag}),
}


def stated_columns(release: Sealed, rows: int) -> list[Mapping[str, Any]]:
    """Return `name`, `dtype` and `list` of the columns of so many items, the id not among them.

    Raises InvalidRelease, naming the field, where the file is not of so many items, or the arrays of a column are not
    there.
    """
    fields = release.fields(FILE)
    stated = taken(fields, _SCHEMA)
    if stated["rows"] != rows:
        raise fields.error(f"rows is {stated['rows']}, there are {rows} items; release it again")
    columns: list[Mapping[str, Any]] = stated["columns"]
    if len({"item_id", *(column["name"] for column in columns)}) <= len(columns):
        raise fields.error("columns have a name twice, or call one item_id")
    for number, column in enumerate(columns):
        stem = ARRAYS.format(number)
        if not release.has(f"{stem}.utf8.npy" if column["dtype"] == "string" else f"{stem}.npy"):
            raise InvalidRelease(f"{release.path / stem}.npy: missing from the release")
    return columns


def read_columns(release: Sealed, rows: int) -> Iterator[tuple[str, Column]]:
    """Yield the name and the values of each column of so many items; raises as `stated_columns` does."""
    for number, column in enumerate(stated_columns(release, rows)):
        yield column["name"], read_column(release, ARRAYS.format(number), column["dtype"], column["list"], rows)
