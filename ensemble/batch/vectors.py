"""Exports item vectors, or users' query vectors, as a file: Parquet, NumPy, or JSON lines for other engines.

Vectors are written batch by batch; a file is complete or absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.batch.bulk import BULK, Documents, index_body, managed_index
from ensemble.batch.everybody import USERS_AT_ONCE, Asking, Everybody, batches
from ensemble.batch.restricts import Restricts
from ensemble.serving.files.release import Release
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.search.catalogue import Catalogue
from workflows.columns import Columns
from workflows.files import allocate, atomic_directory, atomic_file, atomic_write, json_bytes

ITEMS_AT_ONCE = 8192


class Batch(NamedTuple):
    """A batch of vectors."""

    ids: np.ndarray
    """int64 or `str` objects [n]."""
    vectors: np.ndarray
    """float32 [n, d]."""
    members: list[bytes] | None = None
    """Further JSON members of each document; None: there are none."""


@dataclass(frozen=True)
class Vectors:
    """All vectors of one side."""

    ids: np.ndarray
    """int64 or `str` objects [total]."""
    dim: int
    facts: Mapping[str, str]
    """Their origin and their metric."""
    batches: Callable[[], Iterator[Batch]]
    index: Mapping[str, Any] | None = None
    """The request that creates their index in an engine."""


def item_vectors(release: Release, catalogue: Catalogue, name: str, form: str, crowding: str | None = None) -> Vectors:
    """Return the vectors of the live items, float32 [total, d], in catalogue order.

    `name` is the id of the release and the number of its changes, such as `566afa9a+7`; `form`, a format of
    `write_vectors`, decides on the attributes that come along; `crowding` is the attribute for `crowding_tag`, in
    `jsonl`. Raise DataError if an attribute cannot be a field of the engine, or there is no attribute `crowding`.
    """
    keeps = _keeps(form, catalogue, crowding)
    live = np.flatnonzero(catalogue.rows.live)
    ids = catalogue.rows.ids[live]

    def made() -> Iterator[Batch]:
        for start in range(0, len(live), ITEMS_AT_ONCE):
            rows = live[start : start + ITEMS_AT_ONCE]
            members = None if keeps is None else [keeps.members(row) for row in rows.tolist()]
            yield Batch(catalogue.rows.ids[rows], catalogue.rows.vectors[rows], members)

    facts, dim = _facts(release, "items", name), catalogue.rows.vectors.shape[1]
    index: Mapping[str, Any] | None = None
    if isinstance(keeps, Documents):
        index = index_body(form, keeps, dim, facts["metric"], release.manifest["id_dtype"][Columns.Item])
    elif keeps is not None:
        index = managed_index(len(live), dim, facts["metric"])
    return Vectors(ids, dim, facts, made, index)


def query_vectors(everybody: Everybody, user_ids: np.ndarray, asking: Asking) -> Vectors:
    """Return the query vectors of users, float32 [n, d], as the server computes them for such a request."""
    release = everybody.retriever.release

    def made() -> Iterator[Batch]:
        for ids in batches(user_ids, USERS_AT_ONCE):
            yield Batch(ids, everybody.vectors(ids, asking))

    facts = _facts(release, "queries", everybody.retriever.name)
    if everybody.dated:
        facts["time"] = str(asking.time)
    return Vectors(user_ids, int(release.manifest["dim"]), facts, made)


def write_vectors(vectors: Vectors, format_: str, out: Path) -> Path:
    """Write vectors to a file or directory `out`, and return that.

    `parquet`: `id` and `embedding`, float32 [d], with the facts in the file's metadata. `npy`: a directory of `ids.npy`
    (int64 or Unicode) and `embeddings.npy`, float32 [total, d]. `jsonl`: a line per vector in the layout of managed
    vector search: `id` (text), `embedding`, `restricts`, `numeric_restricts`, `crowding_tag`. `elasticsearch`,
    `opensearch`: two lines per item for the bulk interface; the request that creates the index goes to
    `index_path(out)`.
    """
    if format_ == "npy":
        with atomic_directory(out) as directory:
            _write_npy(vectors, directory)
        return out
    with atomic_file(out) as temporary:
        if format_ == "parquet":
            _write_parquet(vectors, temporary)
        else:
            _write_lines(vectors, temporary, _documents if format_ in BULK else _lines)
        if vectors.index is not None:
            atomic_write(index_path(out), json_bytes(vectors.index))
    return out


def index_path(out: Path) -> Path:
    """Return the path of the description of the index for the vectors in `out`."""
    return out.with_name(f"{out.stem}.index.json")


def _keeps(form: str, catalogue: Catalogue, crowding: str | None) -> Restricts | Documents | None:
    if form in BULK:
        return Documents(catalogue.rows.attributes)
    return Restricts(catalogue.rows.attributes, crowding) if form == "jsonl" else None


def _facts(release: Release, side: str, name: str) -> dict[str, str]:
    return {"side": side, "release": name, "metric": str(release.json(PARAMETERS)["metric"])}


def _write_parquet(vectors: Vectors, path: Path) -> None:
    id_type = pa.string() if vectors.ids.dtype == object else pa.int64()
    embedding = pa.list_(pa.float32(), vectors.dim)
    schema = pa.schema([("id", id_type), ("embedding", embedding)], metadata=dict(vectors.facts))
    with pq.ParquetWriter(path, schema) as writer:
        for batch in vectors.batches():
            flat = pa.array(np.ascontiguousarray(batch.vectors).ravel(), pa.float32())
            lists = pa.FixedSizeListArray.from_arrays(flat, vectors.dim)
            writer.write_batch(pa.record_batch([pa.array(batch.ids, id_type), lists], schema=schema))


def _write_npy(vectors: Vectors, directory: Path) -> None:
    is_text = vectors.ids.dtype == object
    np.save(directory / "ids.npy", vectors.ids.astype(np.str_) if is_text else vectors.ids, allow_pickle=False)
    shape = (len(vectors.ids), vectors.dim)
    open_map: Any = np.lib.format.open_memmap
    filled = open_map(directory / "embeddings.npy", mode="w+", dtype=np.float32, shape=shape)
    allocate(directory / "embeddings.npy")
    start = 0
    for batch in vectors.batches():
        filled[start : start + len(batch.ids)] = batch.vectors
        start += len(batch.ids)
    filled.flush()


def _write_lines(vectors: Vectors, path: Path, lines: Callable[[Batch], Iterator[bytes]]) -> None:
    with path.open("wb") as file:
        for batch in vectors.batches():
            file.writelines(lines(batch))


def _lines(batch: Batch) -> Iterator[bytes]:
    for item_id, embedding, more in _texts(batch):
        yield b'{"id":%s,"embedding":[%s]%s}\n' % (msgspec.json.encode(str(item_id)), embedding, more)


def _documents(batch: Batch) -> Iterator[bytes]:
    for item_id, embedding, more in _texts(batch):
        action, own = msgspec.json.encode(str(item_id)), msgspec.json.encode(item_id)
        yield b'{"index":{"_id":%s}}\n' % action
        yield b'{"item_id":%s,"embedding":[%s]%s}\n' % (own, embedding, more)


def _texts(batch: Batch) -> Iterator[tuple[Any, bytes, bytes]]:
    """Yield id, numbers and further members of each vector."""
    # Arrow writes the shortest decimal that reads back as the same float32; Python's would be that of the float64.
    flat = pa.array(np.ascontiguousarray(batch.vectors).ravel(), pa.float32())
    numbers: list[str] = flat.cast(pa.string()).to_pylist()
    dim = batch.vectors.shape[1]
    for row, item_id in enumerate(batch.ids.tolist()):
        more = b"" if batch.members is None else batch.members[row]
        yield item_id, ",".join(numbers[row * dim : (row + 1) * dim]).encode(), more
