"""Stage features: tables to train, valid and test features, the fitted NVTabular workflows and their compiled form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from workflows.columns import Columns
from workflows.config import AnySplit, Asked, Device, FeatureSide, RandomSplit
from workflows.diagnostics import RecipeError, StageError
from workflows.files import atomic_directory
from workflows.inputs import HISTORY, FeatureSpec, Planned, describe, history_of, plan
from workflows.sequences import spec_of
from workflows.splits import split as split_rows
from workflows.tables import Tables

__all__ = ["PARTS", "FeatureSet", "FeatureSpec", "Part", "build", "load"]

PARTS = ("train", "valid", "test")


class Part(NamedTuple):
    """The rows of one part of the split."""

    query: dict[str, np.ndarray]
    """Query features: int64 [n], float32 [n] or int64 [n, max_length]. Not the history: what is known of a user depends
    on the use (`workflows.sequences.history_features`)."""
    interactions: pd.DataFrame
    """The raw rows and their `item_index`, aligned with `query`."""


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


class _Document(Struct, frozen=True, kw_only=True):
    """features.json."""

    query: list[FeatureSpec]
    item: list[FeatureSpec]
    rows: dict[str, int]
    items: int
    asked: Asked = "all"


def build(
    tables: Tables,
    query: FeatureSide,
    item: FeatureSide,
    split: AnySplit,
    device: Device,
    out: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Split the interactions, fit both workflows (the query side on the training rows only) and write `out`.

    Raises
    ------
    RecipeError
        A column that does not exist or does not fit the kind of its feature; a GPU that is not there.
    DataError
        A column that nothing can be learned from.
    """
    plans = plan(query, "query.features"), plan(item, "item.features")
    _check_names(*plans)
    history = history_of(query)
    if history:
        _check_reserved(tables)
    queries = _queries(tables, plans[0])
    inputs = (
        describe(queries, plans[0], "query.features", dated=history is not None),
        describe(tables.items, plans[1], "item.features"),
    )
    rows = split_rows(tables.interactions, split)
    # Merlin takes seconds to import, and talks while it does: a wrong recipe is told before that.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from workflows.fitting import FittedSide, write_schema
        from workflows.graph import wants_gpu
        from workflows.shapes import merlin_schema

    gpu = wants_gpu(device)
    with atomic_directory(out) as directory:
        progress(f"fitting features on {len(rows.train):,} training rows ({'cuDF' if gpu else 'pandas'})")
        save = directory / "query_workflow", directory / "item_workflow"
        fitted = FittedSide.fit(plans[0], inputs[0], queries.iloc[rows.train], gpu, save[0])
        catalogue = FittedSide.fit(plans[1], inputs[1], tables.items, gpu, save[1])
        interactions = _with_item_index(tables)
        for name in PARTS:
            positions = getattr(rows, name)
            progress(f"transforming {len(positions):,} {name} rows")
            (directory / name).mkdir()
            _write_arrays(fitted.transform(queries.iloc[positions]), directory / name / "query.parquet")
            _write_frame(interactions.iloc[positions], directory / name / "interactions.parquet")
        _write_arrays(catalogue.transform(tables.items), directory / "items.parquet")
        _write_frame(tables.items, directory / "catalogue.parquet")
        _write_frame(tables.users, directory / "users.parquet")
        fitted.compile(directory / "query_transform", history)
        catalogue.compile(directory / "item_transform")
        counts = {name: len(getattr(rows, name)) for name in PARTS}
        specs = fitted.specs() + ([spec_of(history, len(tables.items))] if history else [])
        asked: Asked = "all" if isinstance(split, RandomSplit) else split.asked
        document = _Document(query=specs, item=catalogue.specs(), rows=counts, items=len(tables.items), asked=asked)
        write_schema(merlin_schema(document.query, document.item), directory)
        (directory / "features.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def load(directory: Path) -> FeatureSet:
    """Read what `build` wrote.

    Raises
    ------
    StageError
        The directory is missing, unreadable or incomplete.
    """
    try:
        document = msgspec.json.decode((directory / "features.json").read_bytes(), type=_Document)
        train, valid, test = (_load_part(directory / name) for name in PARTS)
        return FeatureSet(
            train=train,
            valid=valid,
            test=test,
            items=_read_arrays(directory / "items.parquet"),
            query_specs=document.query,
            item_specs=document.item,
            catalogue=pd.read_parquet(directory / "catalogue.parquet"),
            users=pd.read_parquet(directory / "users.parquet"),
            asked=document.asked,
        )
    except (OSError, ValueError, msgspec.MsgspecError, pa.ArrowException) as error:
        raise StageError(f"{directory}: not a whole features directory ({error}); run `retrieval features`") from None


def _check_names(query: list[Planned], item: list[Planned]) -> None:
    both = {entry.output for entry in query} & {entry.output for entry in item}
    if both:
        name = min(both)
        raise RecipeError(f"[query.features] and [item.features] both make a feature {name!r}; rename one raw column")


def _check_reserved(tables: Tables) -> None:
    for name in ("interactions", "users"):
        if HISTORY in getattr(tables, name).columns:
            raise RecipeError(
                f"[query.features] {HISTORY}: the {name} have a column of that name, which stands for the sequence; "
                "rename the column"
            )


def _queries(tables: Tables, planned: list[Planned]) -> pd.DataFrame:
    """Return the interactions, row by row, with those columns of their users that they do not have themselves."""
    interactions, users = tables.interactions, tables.users
    wanted = {column for entry in planned for column in entry.columns}
    rows = _positions(users[Columns.User], interactions[Columns.User])
    own = [column for column in users.columns if column not in interactions.columns]
    # Every column that is not asked for stays away too, unless one is asked for that does not exist.
    chosen = [column for column in own if column in wanted] if wanted <= {*own, *interactions.columns} else own
    joined = users[chosen].iloc[rows].set_axis(interactions.index, axis=0)
    return pd.concat([interactions, joined], axis=1)


def _with_item_index(tables: Tables) -> pd.DataFrame:
    index = _positions(tables.items[Columns.Item], tables.interactions[Columns.Item])
    return tables.interactions.assign(**{Columns.ItemIndex: index})


def _positions(unique: pd.Series, values: pd.Series) -> np.ndarray:
    """Return where each of `values` stands in `unique`, int64 [n]; the tables guarantee that it does."""
    return pd.Series(np.arange(len(unique), dtype=np.int64), index=unique).loc[values].to_numpy()


def _load_part(directory: Path) -> Part:
    return Part(_read_arrays(directory / "query.parquet"), pd.read_parquet(directory / "interactions.parquet"))


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    frame.reset_index(drop=True).to_parquet(path)


def _write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Scalars as columns, [n, width] arrays as columns of fixed-size lists."""
    columns = {
        name: pa.array(array) if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(array.ravel(), array.shape[1])
        for name, array in arrays.items()
    }
    pq.write_table(pa.table(columns), path)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(path)
    return {name: _to_numpy(table.column(name).combine_chunks()) for name in table.column_names}


def _to_numpy(array: pa.Array) -> np.ndarray:
    if not pa.types.is_fixed_size_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
