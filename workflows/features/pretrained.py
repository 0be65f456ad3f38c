"""Vectors that were trained elsewhere, keyed by id: read, checked, and as the table that a tower starts from."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.config import Embedding
from workflows.errors import DataError
from workflows.features.kinds.base import Planned
from workflows.features.kinds.coded import FIRST_KNOWN


class Pretrained(NamedTuple):
    """Ids, int64 or str objects [n], and their vectors, float32 [n, width]."""

    ids: npt.NDArray[Any]
    vectors: npt.NDArray[np.float32]

    @property
    def table(self) -> npt.NDArray[np.float32]:
        """Return the vectors by code, float32 [n + 3, width]: padding, null and unseen are zeros."""
        return np.concatenate([np.zeros((FIRST_KNOWN, self.vectors.shape[1]), np.float32), self.vectors])


@functools.lru_cache(maxsize=8)
def read_pretrained(feature: Embedding) -> Pretrained:
    """Read the file of an embedding feature.

    Raises
    ------
    DataError
        It is not readable, ids and vectors differ in number, an id is null or twice, or a number is not finite; names
        file and row.
    """
    assert feature.file is not None
    try:
        ids, vectors = _parquet(feature) if feature.ids is None else (_array(feature.ids), _array(feature.file))
    except DataError:
        raise
    except Exception as error:  # of fsspec's file systems, NumPy and pyarrow, in hierarchies of their own
        raise DataError(f"{feature.file}: pre-trained vectors are not readable: {error}") from None
    _check(feature, ids, vectors)
    ids = ids.astype(np.int64) if ids.dtype.kind in "iu" else np.array([str(key) for key in ids], dtype=object)
    return Pretrained(ids, vectors.astype(np.float32))


def state_of(address: str) -> str:
    """Return what tells whether a file changed, as its file system knows it; "" where it is not there."""
    system, path = fsspec.core.url_to_fs(address)
    return str(system.ukey(path)) if system.exists(path) else ""


def tables_of(planned: Iterable[Planned]) -> Iterator[tuple[str, Pretrained]]:
    """Yield the features whose vectors are keyed by id."""
    for entry in planned:
        vectors = entry.feature.pretrained()
        if vectors is not None:
            yield entry.output, vectors


def save_tables(planned: Iterable[Planned], directory: Path) -> None:
    """Write `<feature>.npy`, float32 [cardinality, width], of every feature that has pre-trained vectors."""
    for name, vectors in tables_of(planned):
        directory.mkdir(exist_ok=True)
        np.save(directory / f"{name}.npy", vectors.table)


def load_tables(directory: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read what `save_tables` wrote, mapped into memory."""
    return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(directory.glob("*.npy"))}


def _array(address: str) -> npt.NDArray[Any]:
    with fsspec.open(address, "rb") as file:
        return np.load(file, allow_pickle=False)


def _parquet(feature: Embedding) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    columns = [feature.id_column, feature.vector_column]
    with fsspec.open(feature.file, "rb") as file:
        frame = pd.read_parquet(file, columns=columns)
    widths = frame[feature.vector_column].map(len)
    if widths.nunique() != 1:
        row = int(np.flatnonzero(widths != widths.iloc[0])[0]) if len(frame) else 0
        raise DataError(f"{feature.file}: {feature.vector_column}, row {row}: vectors must be there, of one length")
    return frame[feature.id_column].to_numpy(), np.stack(frame[feature.vector_column].tolist())


def _check(feature: Embedding, ids: npt.NDArray[Any], vectors: npt.NDArray[Any]) -> None:
    if vectors.ndim != 2 or not vectors.shape[1] or vectors.dtype.kind not in "fiu":
        raise DataError(f"{feature.file}: expected numbers [n, width], got {vectors.dtype} {list(vectors.shape)}")
    if len(ids) != len(vectors):
        raise DataError(f"{feature.file}: {len(vectors)} vectors, but {len(ids)} ids; each needs one")
    wrong = pd.isna(ids)
    if (
        ids.dtype.kind not in "iuUO"
        or wrong.any()
        or (ids.dtype == object and not all(isinstance(key, str) for key in ids))
    ):
        raise DataError(f"{feature.ids or feature.file}: ids must be integers or strings, without nulls")
    twice = pd.Index(ids).duplicated()
    if twice.any():
        row = int(twice.argmax())
        raise DataError(f"{feature.ids or feature.file}: id {ids[row]!r} in row {row} is there twice")
    with np.errstate(over="ignore"):
        infinite = ~np.isfinite(vectors.astype(np.float32)).all(axis=1)
    if infinite.any():
        row = int(infinite.argmax())
        raise DataError(
            f"{feature.file}: the vector in row {row}, of id {ids[row]!r}, is not finite in float32; correct it"
        )
