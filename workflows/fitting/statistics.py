"""NVTabular's fit over rows that come in parts.

Stock, `Workflow.fit` runs a graph of its own for each operator that learns something, so that every part is read and
made canonical once for each of them, and without a cluster it runs on one core. Here a part is read once for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from dask.dataframe.io.io import from_delayed
from dask.delayed import delayed
from distributed import Client
from merlin.dag import Graph
from merlin.dag.executors import Device, LocalExecutor
from merlin.dag.ops.stat_operator import StatOperator
from merlin.io import Dataset
from nvtabular import Workflow

from workflows.features.dask_cluster import compute


def fit_parts(
    workflow: Workflow, sample: pd.DataFrame, read: Callable[[int], pd.DataFrame], parts: int, client: Client | None
) -> None:
    """Fit `workflow` on the canonical rows that `read` returns for part 0 to `parts` - 1.

    The operators learn what they learn by `Workflow.fit` (`merlin.dag.executors.DaskExecutor.fit`).

    Parameters
    ----------
    sample
        Canonical rows of the same types, for the schemas.
    """
    graph, schema = workflow.graph, Dataset(sample, cpu=True).schema
    graph.construct_schema(schema)
    learning = Graph.get_nodes_by_op_type([graph.output_node], StatOperator)
    waits_for = {
        node: set(Graph.get_nodes_by_op_type(node.parents_with_dependencies, StatOperator)) for node in learning
    }
    while waits_for:
        ready = [node for node, others in waits_for.items() if not others]
        _fit_nodes(ready, sample, read, parts, client)
        waits_for = {node: others - set(ready) for node, others in waits_for.items() if node not in ready}
    LocalExecutor(device=Device.CPU).transform(sample, graph.output_node, capture_dtypes=True)
    graph.construct_schema(schema, preserve_dtypes=True)


def transform_frame(workflow: Workflow, rows: pd.DataFrame) -> pd.DataFrame:
    """Apply a fitted workflow to canonical rows in host memory, with an index 0..n-1."""
    return _frame(_columns(workflow.graph.output_node, rows, {}))


def _fit_nodes(
    nodes: list[Any], sample: pd.DataFrame, read: Callable[[int], pd.DataFrame], parts: int, client: Client | None
) -> None:
    meta = _inputs(nodes, lambda number: sample, 0)
    shared = delayed(nodes, traverse=False)
    tasks = [delayed(_inputs)(shared, read, number) for number in range(parts)]
    learned = []
    for place, node in enumerate(nodes):
        frames = from_delayed([frames[place] for frames in tasks], meta=meta[place].iloc[:0], verify_meta=False)
        learned.append(node.op.fit(node.input_columns, frames))
    for node, statistics in zip(nodes, compute(learned, client), strict=True):
        node.op.fit_finalize(statistics)
        node.op.fitted = True


def _inputs(nodes: list[Any], read: Callable[[int], pd.DataFrame], number: int) -> list[pd.DataFrame]:
    """Return what each of `nodes` gets to see of the rows of a part."""
    rows, done = read(number), dict[Any, dict[str, pd.Series]]()
    return [_frame(_inputs_of(node, rows, done)) for node in nodes]


def _columns(node: Any, rows: pd.DataFrame, done: dict[Any, dict[str, pd.Series]]) -> dict[str, pd.Series]:
    """Return what a node of the graph makes of `rows`; `done` keeps it for other nodes.

    As `merlin.dag.executors.LocalExecutor` does it, which goes from a node to its parents once for each way there and
    copies every column of a node each time that it adds a parent's.
    """
    if node not in done:
        inputs = _inputs_of(node, rows, done)
        if node.op:
            outputs = node.op.transform(node.input_columns.resolve(node.input_schema), _frame(inputs))
            inputs = {str(name): outputs[name] for name in outputs.columns}
        done[node] = inputs
    return done[node]


def _inputs_of(node: Any, rows: pd.DataFrame, done: dict[Any, dict[str, pd.Series]]) -> dict[str, pd.Series]:
    inputs: dict[str, pd.Series] = {}
    for parent in node.parents_with_dependencies:
        inputs.update(_columns(parent, rows, done))
    for name in (*node.input_columns.names, *node.dependency_columns.names):
        if name not in inputs:
            inputs[name] = rows[name]
    return inputs


def _frame(columns: dict[str, pd.Series]) -> pd.DataFrame:
    """Operators replace columns, and none writes into one, so that nothing has to be copied."""
    return pd.DataFrame(columns, copy=False)
