"""The files of a part of the features: arrays and raw rows, in one file each or in one for each part of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

QUERY: Final = "query.parquet"
"""The query features of a part, a file or a directory of files."""
ROWS: Final = "interactions.parquet"
"""The raw rows that they were made of, and their `item_index`."""
ORDER: Final = "order.npy"
"""Where each row, in the order of the split, stands in the files; without it they are in that order."""
_AT_ONCE: Final = 1 << 20


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Scalars as columns, [n, width] arrays as columns of fixed-size lists."""
    columns = {
        name: pa.array(array) if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(array.ravel(), array.shape[1])
        for name, array in arrays.items()
    }
    write_rows(pa.table(columns), path)


def write_rows(table: pa.Table, path: Path) -> None:
    """Whole numbers as differences, which take less space than Snappy leaves, and less time; text with a dictionary."""
    whole = [field.name for field in table.schema if pa.types.is_int64(field.type)]
    text = [field.name for field in table.schema if pa.types.is_string(field.type)]
    compression = {name: "none" if name in whole else "snappy" for name in table.column_names}
    encoding = dict.fromkeys(whole, "DELTA_BINARY_PACKED") or None
    pq.write_table(table, path, use_dictionary=text or False, compression=compression, column_encoding=encoding)


def read_arrays(path: Path, order: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return what `write_arrays` wrote to a file, or to the files of a directory; with `order` its rows in that one."""
    return _read(path, _to_numpy, None, order)


def read_query(part: Path) -> dict[str, np.ndarray]:
    """Return the query features of a part of the features, in the order of the split."""
    return read_arrays(part / QUERY, _order(part))


def read_rows(part: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the raw rows of a part of the features, such as `features/train`, in the order of the split.

    `columns`: those to read, as far as they exist. None: all.
    """
    return read_frame(part / ROWS, columns, _order(part))


def read_frame(path: Path, columns: Sequence[str] | None = None, order: np.ndarray | None = None) -> pd.DataFrame:
    """Return what `write_rows` wrote to a file, or to the files of a directory; with `order` its rows in that one."""
    import pandas as pd

    columns_read = {}
    for column in _columns(path, columns):
        name = column.column_names[0]
        values = column.to_pandas()[name]
        columns_read[name] = values if order is None else values.take(order).reset_index(drop=True)
    return pd.DataFrame(columns_read, copy=False)


class Piece(NamedTuple):
    """The rows of one file of a part of the features."""

    query: dict[str, np.ndarray]
    """Their query features, where these were asked for."""
    rows: pd.DataFrame
    """The raw rows, by where each stands in the order of the split."""


def read_pieces(part: Path, columns: Sequence[str], query: bool = False) -> Iterator[Piece]:
    """Yield the rows of a part of the features file by file, in the files' order: of so many that memory cannot hold.

    Of the raw rows these `columns` are read. Where the files are not in the order of the split 4 bytes a row are held.
    """
    files = [part / ROWS] if (part / ROWS).is_file() else sorted((part / ROWS).glob("*.parquet"))
    rows = [pq.read_metadata(file).num_rows for file in files]
    places, first = _places(part, sum(rows)), 0
    for file, count in zip(files, rows, strict=True):
        features = part / QUERY if file == part / ROWS else part / QUERY / file.name
        frame = read_frame(file, columns)
        stand = np.arange(first, first + count) if places is None else places[first : first + count]
        yield Piece(read_arrays(features) if query else {}, frame.set_axis(stand, axis=0))
        first += count


def _places(part: Path, rows: int) -> np.ndarray | None:
    """Return where the rows, in the order of the files, stand in that of the split; None: it is the same one."""
    if not (part / ORDER).exists():
        return None
    places = np.empty(rows, np.uint32 if rows < 2**32 else np.int64)
    header = np.load(part / ORDER, mmap_mode="r").offset
    for start in range(0, rows, _AT_ONCE):
        order = np.fromfile(part / ORDER, np.int64, _AT_ONCE, offset=header + start * 8)  # mapped it would be in memory
        places[order] = np.arange(start, start + len(order))
    return places


def read_raw(part: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of `read_rows`, none of them a list, as arrays: this does not wait for pandas."""
    return _read(part / ROWS, _without_pandas, columns, _order(part))


def _read(
    path: Path, convert: Callable[[pa.Array], np.ndarray], columns: Sequence[str] | None, order: np.ndarray | None
) -> dict[str, np.ndarray]:
    arrays = {}
    for column in _columns(path, columns):
        array = convert(column.column(0).combine_chunks())
        arrays[column.column_names[0]] = array if order is None else array[order]
    return arrays


def _columns(path: Path, selected: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield columns one by one, each a table: what the caller makes of one is all that is held beside it."""
    # pq.read_table would import pyarrow.dataset, which imports pandas.
    stored = pq.ParquetFile(path) if path.is_file() else pq.ParquetDataset(path)
    for name in pq.read_schema(path).names if path.is_file() else stored.schema.names:
        if selected is None or name in selected:
            yield stored.read(columns=[name])


def _order(part: Path) -> np.ndarray | None:
    return np.asarray(np.load(part / ORDER)) if (part / ORDER).exists() else None


def _without_pandas(array: pa.Array) -> np.ndarray:
    """Return whole numbers as int64, anything else as objects; pyarrow's `to_numpy` imports pandas."""
    if not pa.types.is_int64(array.type) or array.null_count or not len(array):
        return np.array(array.to_pylist(), dtype=object)
    return np.frombuffer(array.buffers()[1], np.int64, len(array), 8 * array.offset)


def _to_numpy(array: pa.Array) -> np.ndarray:
    if not pa.types.is_fixed_size_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
