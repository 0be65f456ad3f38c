"""The items' raw columns, `items/attributes.parquet`, of a release that one need not trust.

A Parquet file of a kilobyte can unfold to gigabytes, can name other files that hold its columns, and has made pyarrow
before 14.0.1 unpickle what it says (CVE-2023-47248). Its footer and the headers of its pages are therefore gone through
by our own rules (https://parquet.apache.org/docs/file-format/) before pyarrow sees it. That is no wall: pages made for
the purpose end pyarrow 15 with a segmentation fault. Serving does not read the table at all; `retrieval items` is for
releases whose writer one trusts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ensemble.release.thrift import Reader, Struct
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release

TABLE = "items/attributes.parquet"
_MAGIC = b"PAR1"
_LARGEST_FOOTER = 1 << 22
_LARGEST_PAGE = 1 << 28
_ENTRIES_PER_ROW = 1000
"""Entries of the lists of one column, on average; and bytes of what one item says, in units of 64."""
_BATCH_BYTES = 1 << 26
_SPARE = 1 << 20
_EXTENSION = b"ARROW:extension"


def items_of(release: Release) -> pd.DataFrame:
    """Read the item table of a release, one row for each vector; raise InvalidRelease as `read_items` does."""
    return read_items(release.path / TABLE, release.header("items/vectors.npy").shape[0])


def read_items(path: Path, rows: int) -> pd.DataFrame:
    """Read an item table with so many rows.

    Raises
    ------
    InvalidRelease
        It has another number of rows, is damaged, or unfolds to more than items have to say: 1,000 entries of each
        column and 64,000 bytes for each item, on average.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    largest = check_table(path, rows)
    most, taken, batches = 64 * _ENTRIES_PER_ROW * rows + _SPARE, 0, []
    try:
        with pq.ParquetFile(path) as file:
            # A page of few values can stand for many rows of a long one: so many rows at once as bounds that.
            for batch in file.iter_batches(max(1, min(1 << 16, _BATCH_BYTES // max(1, largest)))):
                batch.validate(full=True)
                taken += batch.nbytes
                if taken > most:
                    raise InvalidRelease(f"{path}: unfolds to more than {most} bytes for {rows} items")
                batches.append(batch)
            table = pa.Table.from_batches(batches, schema=file.schema_arrow)
        if table.num_rows != rows:
            raise InvalidRelease(f"{path}: its pages hold {table.num_rows} rows, expected {rows}")
        return table.to_pandas()
    except InvalidRelease:
        raise
    except Exception as error:  # Arrow's own, and whatever text that is none makes of its Python side
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidRelease(f"{path}: pyarrow cannot read it: {type(error).__name__}: {reason}") from None


def check_table(path: Path, rows: int) -> int:
    """Look at footer and page headers; return the bytes of the largest page, unfolded. Raises InvalidRelease."""
    content = path.read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    if content[:4] != _MAGIC or content[-4:] != _MAGIC or not 0 < size <= min(_LARGEST_FOOTER, len(content) - 12):
        raise InvalidRelease(f"{path}: not a Parquet file")
    try:
        footer = Reader(content[-8 - size : -8]).struct()
        _check_schema(footer)
        if (found := footer[3]) != rows or sum(group[3] for group in footer[4]) != rows:
            raise InvalidRelease(f"{path}: {found} rows, expected {rows}")
        pages = [page for group in footer[4] for column in group[1] for page in _pages(column, content, group[3])]
        return max(pages, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, binascii.Error) as error:
        raise InvalidRelease(f"{path}: not a Parquet file of items: {error}") from None


def _check_schema(footer: Struct) -> None:
    """Refuse what makes pyarrow load code for a column's type."""
    for entry in footer.get(5, []):
        value = bytes(entry.get(2, b""))
        if _EXTENSION in value or (entry[1] == b"ARROW:schema" and _EXTENSION in base64.b64decode(value)):
            raise ValueError("has a column of an extension type")


def _pages(column: Struct, content: bytes, rows: int) -> Iterator[int]:
    """Yield the bytes of each page of a column's part, unfolded; refuse what does not add up."""
    if not set(column) <= {2, 3, 4, 5, 6, 7}:
        raise ValueError("a column in another file, or encrypted")
    about: dict[int, Any] = column[3]
    start = about.get(11) or about[9]
    end, values = start + about[7], 0
    if not 4 <= min(start, about[9]) <= max(start, about[9]) <= end <= len(content) - 8:
        raise ValueError("a column outside of the file")
    if not 0 <= about[5] <= _ENTRIES_PER_ROW * rows + _SPARE:
        raise ValueError(f"{about[5]} entries of a column for {rows} items")
    while start < end:
        reader = Reader(content, start)
        page = reader.struct()
        start = reader.place + page[3]
        if not 0 <= page[2] <= _LARGEST_PAGE or page[3] < 0:
            raise ValueError(f"a page of {page[2]} bytes")
        values += next((page[kind][1] for kind in (5, 8) if kind in page), 0)
        yield int(page[2])
    if start != end or values != about[5]:
        raise ValueError("pages that are not those of their column")
