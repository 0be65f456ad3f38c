"""Fit both sides of the features: what goes into them, and the fitted workflows."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from workflows.features.canonical import Input, describe
from workflows.features.kinds.aggregate import check_aggregates, columns_needed
from workflows.features.plan import Planned
from workflows.features.rows import Division, Queries
from workflows.tables.store import Stored

if TYPE_CHECKING:
    from distributed import Client
    from nvtabular import Workflow

    from workflows.fitting.fit import FittedSide


class Source(NamedTuple):
    """What the workflows are fitted on."""

    stored: Stored
    sample: pd.DataFrame
    """Some rows of the queries."""
    division: Division


def describe_sides(
    plans: tuple[list[Planned], list[Planned]], sample_rows: pd.DataFrame, stored: Stored, dated: bool
) -> tuple[list[Input], list[Input]]:
    """Return the inputs of both sides: the types of their columns, by a sample of the queries and by the items."""
    inputs = (
        describe(sample_rows, plans[0], "query.features", dated=dated),
        describe(stored.items, plans[1], "item.features"),
    )
    for planned, section in zip(plans, ("query.features", "item.features"), strict=True):
        check_aggregates(planned, section, pq.read_schema(stored.parts[0]).names)
    return inputs


def import_merlin() -> None:
    """Import Merlin, which takes seconds and talks meanwhile: errors of a recipe are reported before that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("workflows.fitting.fit")
        importlib.import_module("workflows.fitting.warm_start")


def fit_sides(
    plans: tuple[list[Planned], list[Planned]],
    inputs: tuple[list[Input], list[Input]],
    source: Source,
    earlier_workflows: Sequence[Workflow | None],
    gpu: bool,
    directory: Path,
    client: Client | None,
) -> tuple[FittedSide, FittedSide]:
    """Fit both workflows, the query side on the training rows; `earlier_workflows` are those to start from, or None."""
    from workflows.fitting.aggregates import fit_aggregates
    from workflows.fitting.fit import FittedSide, PartedRows

    division, parts = source.division, len(source.division.queries.parts)
    aggregates = []
    for planned, earlier in zip(plans, earlier_workflows, strict=True):
        rows = division._replace(queries=Queries.of(source.stored, columns_needed(planned)))
        aggregates.append(fit_aggregates(planned, rows.training, parts, earlier))
    training = PartedRows(division.training, parts, source.sample)
    items = PartedRows.of(source.stored.items)
    query = FittedSide.fit(
        plans[0], inputs[0], training, gpu, directory / "query_workflow", client, aggregates[0], earlier_workflows[0]
    )
    item = FittedSide.fit(
        plans[1], inputs[1], items, gpu, directory / "item_workflow", None, aggregates[1], earlier_workflows[1]
    )
    return query, item
