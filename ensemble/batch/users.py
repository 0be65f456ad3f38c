"""Chooses the users of a batch: all that a release knows, the ids in a file, or ids on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from ensemble.batch.everybody import known_users
from ensemble.serving.files.release import Release
from workflows.columns import Columns
from workflows.errors import DataError

EVERYBODY = "all"


class Chosen(NamedTuple):
    """Users, each once."""

    ids: np.ndarray
    """int64 or `str` objects [n]."""
    repeated: int
    """Number of duplicates."""


def choose(what: str, release: Release) -> Chosen:
    """Return the users of a batch, each once, in their order. Users that the release does not know are allowed.

    `what` is `all`, a file (.parquet, .csv or .jsonl with a column `user_id`, or .txt with one per line), or ids with
    commas. Raise DataError if the file is missing or not readable, has no such column, or an id is null or not of the
    release's type.
    """
    if what == EVERYBODY:
        return Chosen(known_users(release), 0)
    place = Path(what)
    if place.suffix.lower() in _READERS:
        return _chosen(str(place), _read(place), release)
    return _chosen("--users", pa.chunked_array([what.split(",")], pa.string()), release)


def listed(users: Any, release: Release) -> Chosen:
    """Return the users of ids in memory: one, or any sequence of them, or a frame with a column `user_id`.

    Raise DataError if there are none, or an id is null or not of the release's type.
    """
    if hasattr(users, "columns"):
        if Columns.User not in list(users.columns):
            raise DataError(f"users: the frame has no column '{Columns.User}'; there are: {', '.join(users.columns)}")
        users = users[Columns.User]
    ids = [users] if isinstance(users, (str, int)) else users
    try:
        values = pa.chunked_array([pa.array(ids.to_pylist() if hasattr(ids, "to_pylist") else list(ids))])
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"users: {str(error).splitlines()[0]}; expected ids of one type") from None
    return _chosen("users", values, release)


def _chosen(place: str, ids: pa.ChunkedArray, release: Release) -> Chosen:
    typed = _typed(place, ids, release.manifest["id_dtype"][Columns.User] == "string")
    unique = pd.unique(typed)
    return Chosen(unique, len(typed) - len(unique))


def _read(path: Path) -> pa.ChunkedArray:
    try:
        return _READERS[path.suffix.lower()](path)
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file; --users takes all, a file, or ids with commas between them") from None
    except KeyError:
        raise DataError(f"{path}: column '{Columns.User}' is missing") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as {path.suffix}: {str(error).splitlines()[0]}") from None


def _parquet(path: Path) -> pa.ChunkedArray:
    if Columns.User not in pq.read_schema(path).names:
        raise KeyError(Columns.User)
    return pq.read_table(path, columns=[Columns.User])[Columns.User]


def _csv(path: Path) -> pa.ChunkedArray:
    # Read as text, so that an id such as 007 stays what it is.
    options = pyarrow.csv.ConvertOptions(column_types={Columns.User: pa.string()}, strings_can_be_null=True)
    return pyarrow.csv.read_csv(path, convert_options=options)[Columns.User]


def _lines(path: Path) -> pa.ChunkedArray:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return pa.chunked_array([[line for line in lines if line]], pa.string())


_READERS: dict[str, Callable[[Path], pa.ChunkedArray]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": lambda path: pyarrow.json.read_json(path)[Columns.User],
    ".txt": _lines,
}


def _typed(place: str, ids: pa.ChunkedArray, is_text: bool) -> np.ndarray:
    if not len(ids):
        raise DataError(f"{place}: has no users; expected at least one")
    if ids.null_count:
        row = ids.is_null().to_pylist().index(True)
        raise DataError(f"{place}: column '{Columns.User}', row {row}: is null; leave the row out")
    if is_text:
        if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
            raise DataError(f"{place}: column '{Columns.User}': got {ids.type}, the release's user ids are strings")
        return ids.to_numpy().astype(object)
    try:
        return ids.cast(pa.int64()).to_numpy()
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{place}: column '{Columns.User}': {reason}; the release's user ids are 64-bit integers"
        ) from None
