"""Stage features: tables to train, valid and test features, the fitted NVTabular workflows and their compiled form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from workflows.columns import Columns
from workflows.config import AnySplit, Asked, Device, FeatureSide, RandomSplit
from workflows.errors import RecipeError, StageError
from workflows.features.dask_cluster import each
from workflows.features.files import ORDER, QUERY, ROWS, read_arrays, read_query, read_rows, write_arrays
from workflows.features.finite import check_finite, check_rows
from workflows.features.history import spec_of
from workflows.features.plan import HISTORY, FeatureSpec, Planned, history_of, plan
from workflows.features.pretrained import load_tables, save_tables
from workflows.features.rows import PARTS, Division, Queries, order_of, sample
from workflows.features.sides import Source, describe_sides, fit_sides, import_merlin
from workflows.files import atomic_directory
from workflows.fitting.warm_start_record import Earlier, WarmStart, check_same, read_warm_start, write_warm_start
from workflows.progress import Progress, silent
from workflows.tables.splits import split as split_rows
from workflows.tables.store import Stored, Tables, open_tables

if TYPE_CHECKING:
    from distributed import Client

    from workflows.features.transform import Transform
    from workflows.fitting.fit import FittedSide

__all__ = ["PARTS", "FeatureSet", "FeatureSpec", "Part", "Sample", "build", "load"]

TOLD_ROWS: Final = 2_000_000


class Part(NamedTuple):
    """The rows of one part of the split."""

    query: dict[str, np.ndarray]
    """Query features: int64 [n], float32 [n] or int64 [n, max_length]. Not the history: what is known of a user depends
    on the use (`workflows.features.history.history_features`)."""
    interactions: pd.DataFrame
    """The raw rows and their `item_index`, aligned with `query`."""


class Sample(NamedTuple):
    """About so many rows: all those of users drawn evenly by the seed."""

    rows: int
    seed: int


class FeatureSet(NamedTuple):
    """What the stage leaves behind."""

    train: Part
    valid: Part
    test: Part
    items: dict[str, np.ndarray]
    """Item features, one row per catalogue item, in item_index order."""
    query_specs: list[FeatureSpec]
    item_specs: list[FeatureSpec]
    catalogue: pd.DataFrame
    """The raw items, in item_index order."""
    users: pd.DataFrame
    asked: Asked = "all"
    """Which rows of valid and test are asked for."""
    sample: Sample | None = None
    """How many of them; None: all."""
    pretrained: Mapping[str, np.ndarray] = MappingProxyType({})
    """Of features with pre-trained vectors, float32 [cardinality, width]."""
    warm_start: WarmStart | None = None
    """What they go on from, where that is an earlier run's features."""
    stored: Path | None = None
    """The directory that rows are trained on from, where memory is not to hold them (`models.training.stream`). The
    parts are then the rows that validation and export look at, and `train` what these look back on."""


class _Document(Struct, frozen=True, kw_only=True):
    """features.json."""

    query: list[FeatureSpec]
    item: list[FeatureSpec]
    rows: dict[str, int]
    items: int
    asked: Asked = "all"


def build(
    tables: Tables | Stored,
    query: FeatureSide,
    item: FeatureSide,
    split: AnySplit,
    device: Device,
    out: Path,
    progress: Progress = silent,
    client: Client | None = None,
    earlier: Earlier | None = None,
) -> None:
    """Split the interactions, fit both workflows (the query side on the training rows only) and write `out`.

    The interactions go through part by part, on the client's cluster or in threads of this process; what is written
    does not depend on which. `out` appears only when all is there. Of an `earlier` run, to start from, codes and scales
    are kept (`workflows.fitting.warm_start`).

    Raises
    ------
    RecipeError
        A column that does not exist or does not fit the kind of its feature; a GPU that is not there; features other
        than the earlier run's.
    DataError
        A column that nothing can be learned from, or a value that is not finite as a float32 feature; names column,
        row and value.
    """
    plans = _plan(query, item, earlier)
    with atomic_directory(out) as directory, _scratch(directory) as scratch:
        stored, history = _on_disk(tables, scratch), history_of(query)
        if history:
            _check_reserved(stored)
        needed = {column for entry in plans[0] for column in entry.columns}
        queries = Queries.of(stored, needed | ({Columns.Timestamp} if history else set()))
        sample_rows = sample(queries)
        inputs = describe_sides(plans, sample_rows, stored, dated=history is not None)
        division, counts = _divide(queries, split, directory, scratch)
        import_merlin()
        from workflows.features.transform import Transform
        from workflows.features.workflow import wants_gpu
        from workflows.fitting.warm_start import workflows_of

        gpu, earlier_workflows = wants_gpu(device), workflows_of(earlier)
        progress(f"fitting features on {counts['train']:,} training rows ({'cuDF' if gpu else 'pandas'})")
        source = Source(stored, sample_rows, division)
        query_side, item_side = fit_sides(plans, inputs, source, earlier_workflows, gpu, directory, client)
        save_tables([*plans[0], *plans[1]], directory / "pretrained")
        _check_users(query_side, stored, queries, sample_rows)
        _write_items(item_side, stored, directory)
        _transform(Transform(division, query_side, directory), client, progress)
        query_side.compile(directory / "query_transform", history)
        item_side.compile(directory / "item_transform")
        specs = query_side.specs() + ([spec_of(history, len(stored.items))] if history else [])
        if earlier:
            grown = {**query_side.rows_of(earlier_workflows[0]), **item_side.rows_of(earlier_workflows[1])}
            write_warm_start(grown, [*specs, *item_side.specs()], stored.items, earlier, directory)
        asked: Asked = "all" if isinstance(split, RandomSplit) else split.asked
        document = _Document(query=specs, item=item_side.specs(), rows=counts, items=len(stored.items), asked=asked)
        _write_document(document, directory)


def load(directory: Path, columns: Sequence[str] | None = None, parts: Sequence[str] = PARTS) -> FeatureSet:
    """Read what `build` wrote: of the raw rows these `columns` that they have, None: all; other `parts` are left empty.

    Raises
    ------
    StageError
        The directory is missing, unreadable or incomplete.
    """
    document = _document(directory)
    with reading(directory):
        train, valid, test = (
            Part(read_query(directory / name), read_rows(directory / name, columns))
            if name in parts
            else Part({}, pd.DataFrame())
            for name in PARTS
        )
        return FeatureSet(
            train=train,
            valid=valid,
            test=test,
            items=read_arrays(directory / "items.parquet"),
            query_specs=document.query,
            item_specs=document.item,
            catalogue=pd.read_parquet(directory / "catalogue.parquet"),
            users=pd.read_parquet(directory / "users.parquet"),
            asked=document.asked,
            pretrained=load_tables(directory / "pretrained"),
            warm_start=read_warm_start(directory),
        )


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Turn what files that are missing or damaged raise into a StageError."""
    try:
        yield
    except (OSError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
        message = f"{directory}: not a whole features directory ({error}); run `retrieval features`"
        raise StageError(message) from None


def row_counts(directory: Path) -> dict[str, int]:
    """Return how many rows the parts of what `build` wrote have; raise StageError as `load`."""
    return _document(directory).rows


def _document(directory: Path) -> _Document:
    with reading(directory):
        return msgspec.json.decode((directory / "features.json").read_bytes(), type=_Document)


def _plan(query: FeatureSide, item: FeatureSide, earlier: Earlier | None) -> tuple[list[Planned], list[Planned]]:
    """Plan the features of both sides, and compare them with those of an earlier run."""
    plans = plan(query, "query.features"), plan(item, "item.features")
    both = {entry.output for entry in plans[0]} & {entry.output for entry in plans[1]}
    if both:
        name = min(both)
        raise RecipeError(f"[query.features] and [item.features] both make a feature {name!r}; rename one raw column")
    if earlier:
        check_same(query, earlier.query, "query.features", earlier.run)
        check_same(item, earlier.item, "item.features", earlier.run)
    return plans


def _write_items(side: FittedSide, stored: Stored, directory: Path) -> None:
    """Write the items' features, and the raw items and users."""
    items = side.transform(stored.items)
    check_finite(items, side.planned, stored.items, "items")
    write_arrays(items, directory / "items.parquet")
    for name, frame in (("catalogue", stored.items), ("users", stored.users)):
        frame.reset_index(drop=True).to_parquet(directory / f"{name}.parquet")


def _write_document(document: _Document, directory: Path) -> None:
    """Write features.json, and the features as Merlin's schema, which `merlin.models` reads."""
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    from workflows.features.specs import merlin_schema

    schema = TensorflowMetadata.from_merlin_schema(merlin_schema(document.query, document.item))
    schema.to_proto_text_file(str(directory), "schema.pbtxt")
    (directory / "features.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def _check_users(fitted: FittedSide, stored: Stored, queries: Queries, sample_rows: pd.DataFrame) -> None:
    """Look at the features of all users, those without interactions among them: a release holds these, too."""
    own = [column for column in queries.users if column in stored.users]
    if not own:
        return
    rows = sample_rows.iloc[np.zeros(len(stored.users), np.int64)].reset_index(drop=True)
    rows = rows.assign(**{column: stored.users[column].reset_index(drop=True) for column in own})
    planned = [entry for entry in fitted.planned if set(entry.columns) & set(own)]
    check_rows(fitted, planned, rows, "users")


def _check_reserved(tables: Stored) -> None:
    columns = {"interactions": pq.read_schema(tables.parts[0]).names, "users": tables.users.columns}
    for name, names in columns.items():
        if HISTORY in names:
            raise RecipeError(
                f"[query.features] {HISTORY}: the {name} have a column of that name, which stands for the sequence; "
                "rename the column"
            )


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Yield a directory for what goes before the end, where workers see it too."""
    scratch = directory / ".scratch"
    scratch.mkdir()
    yield scratch
    shutil.rmtree(scratch)


def _on_disk(tables: Tables | Stored, scratch: Path) -> Stored:
    if isinstance(tables, Stored):
        return tables
    tables.save(scratch / "tables")
    return open_tables(scratch / "tables")


def _divide(queries: Queries, split: AnySplit, directory: Path, scratch: Path) -> tuple[Division, dict[str, int]]:
    """Write the split, and the order of each of its parts; return where it is and how many rows each has."""
    rows = split_rows(queries.dividing(split), split)
    for name, positions in rows._asdict().items():
        (directory / name).mkdir()
        if len(queries.parts) > 1:
            for kind in (QUERY, ROWS):
                (directory / name / kind).mkdir()
            order = order_of(positions, sum(queries.rows))
            if order is not None:
                np.save(directory / name / ORDER, order)
    return Division.write(rows, queries, scratch), {name: len(positions) for name, positions in rows._asdict().items()}


def _transform(transform: Transform, client: Client | None, progress: Progress) -> None:
    parts, done, reported = transform.division.queries.rows, 0, 0
    rows = sum(parts)
    for count in each(transform, len(parts), client):
        done += count
        if done == rows or done - reported >= TOLD_ROWS:
            progress(f"transformed {done:,} of {rows:,} rows")
            reported = done
