"""What a fitted workflow has learned: vocabularies, edges, moments, widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from merlin.dag import Graph
from nvtabular import Workflow

from workflows.config import Bucketized, Time
from workflows.features.kinds import is_hashed, is_number, is_vector
from workflows.features.plan import Planned
from workflows.operators.codes import FIRST_KNOWN, Codes, KeyedCodes, Lookup
from workflows.operators.lists import Vectors
from workflows.operators.numbers import BucketCodes, FittedBuckets, MinMax, Standardise
from workflows.operators.times import CARDINALITY


def vocabulary(workflow: Workflow, output: str) -> pd.Series:
    """Return the known values of a categorical feature in the order of their codes, the first of which is 3."""
    op = _operator(workflow, output, Codes, Lookup, KeyedCodes)
    if isinstance(op, KeyedCodes):
        return pd.Series(op.values)
    path, column = op.vocabulary_of(output)
    values = pd.read_parquet(path)[column]
    if not np.array_equal(values.index.to_numpy(), np.arange(FIRST_KNOWN, FIRST_KNOWN + len(values))):
        raise AssertionError(f"{path}: NVTabular numbered its vocabulary otherwise than from {FIRST_KNOWN}")
    return values


def vocabulary_size(workflow: Workflow, entry: Planned) -> int:
    """Return how many values the vocabulary of a feature holds; 0 where every value is hashed."""
    if is_hashed(entry.feature):
        return 0
    op = _operator(workflow, entry.output, Codes, KeyedCodes)
    if isinstance(op, KeyedCodes):
        return len(op.values)
    return int(pq.read_metadata(op.vocabulary_of(entry.output)[0]).num_rows)


def figures(workflow: Workflow, output: str) -> Any:
    """Return the table of an aggregate by code, float32 [n + 3, statistics]."""
    return _operator(workflow, output, Lookup).table


def edges(workflow: Workflow, output: str) -> list[float]:
    """Return the bucket edges of a bucketized feature."""
    return _operator(workflow, output, BucketCodes, FittedBuckets).edges


def shift_and_scale(workflow: Workflow, output: str) -> tuple[float, float]:
    """Return what is subtracted from a number, and what it is divided by then."""
    return _operator(workflow, output, Standardise, MinMax).shift_and_scale(output)


def width(workflow: Workflow, output: str) -> int:
    """Return how many numbers the vectors of a column have."""
    return _operator(workflow, output, Vectors).width


def cardinality(workflow: Workflow, entry: Planned) -> int:
    """Return one more than the largest code of a feature, 0 for numbers and vectors."""
    feature: Any = entry.feature
    if is_number(feature) or is_vector(feature):
        return 0
    if isinstance(feature, Time):
        return FIRST_KNOWN + CARDINALITY[feature.part]
    if isinstance(feature, Bucketized):
        return FIRST_KNOWN + len(edges(workflow, entry.output)) + 1
    return FIRST_KNOWN + vocabulary_size(workflow, entry) + (getattr(feature, "hash_buckets", None) or 0)


def operator_of(workflow: Workflow, output: str, *kinds: type) -> Any:
    """Return the operator of one of these kinds that a feature is made by, or None."""
    for kind in kinds:
        for node in Graph.get_nodes_by_op_type([workflow.output_node], kind):
            if output in node.output_columns.names:
                return node.op
    return None


def _operator(workflow: Workflow, output: str, *kinds: type) -> Any:
    found = operator_of(workflow, output, *kinds)
    if found is None:
        raise KeyError(output)
    return found
