"""What a fitted workflow has learned: vocabularies, edges, moments, widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from merlin.dag import Graph
from nvtabular import Workflow

from workflows.operators.codes import FIRST_KNOWN, Codes, KeyedCodes, Lookup
from workflows.operators.lists import Vectors
from workflows.operators.numbers import BucketCodes, FittedBuckets, MinMax, Standardise


class Learned:
    """What a fitted workflow has learned, by the name of the feature; raises KeyError for what it has not."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    def vocabulary(self, output: str) -> pd.Series:
        """Return the known values of a categorical feature in the order of their codes, which begin at 3."""
        op = self._operator(output, Codes, Lookup, KeyedCodes)
        if isinstance(op, KeyedCodes):
            return pd.Series(op.values)
        path, column = op.vocabulary_of(output)
        values = pd.read_parquet(path)[column]
        if not np.array_equal(values.index.to_numpy(), np.arange(FIRST_KNOWN, FIRST_KNOWN + len(values))):
            raise AssertionError(f"{path}: NVTabular numbered its vocabulary otherwise than from {FIRST_KNOWN}")
        return values

    def vocabulary_size(self, output: str) -> int:
        """Return how many values the vocabulary of a feature holds."""
        op = self._operator(output, Codes, KeyedCodes)
        if isinstance(op, KeyedCodes):
            return len(op.values)
        return int(pq.read_metadata(op.vocabulary_of(output)[0]).num_rows)

    def figures(self, output: str) -> Any:
        """Return the table of an aggregate by code, float32 [n + 3, statistics]."""
        return self._operator(output, Lookup).table

    def edges(self, output: str) -> list[float]:
        """Return the bucket edges of a bucketized feature."""
        return self._operator(output, BucketCodes, FittedBuckets).edges

    def shift_and_scale(self, output: str) -> tuple[float, float]:
        """Return what is subtracted from a number, and what it is divided by then."""
        return self._operator(output, Standardise, MinMax).shift_and_scale(output)

    def width(self, output: str) -> int:
        """Return how many numbers the vectors of a column have."""
        return int(self._operator(output, Vectors).width)

    def _operator(self, output: str, *kinds: type) -> Any:
        operator = operator_of(self._workflow, output, *kinds)
        if operator is None:
            raise KeyError(output)
        return operator


def operator_of(workflow: Workflow, output: str, *kinds: type) -> Any:
    """Return the operator of one of these kinds that a feature is made by, or None."""
    for kind in kinds:
        for node in Graph.get_nodes_by_op_type([workflow.output_node], kind):
            if output in node.output_columns.names:
                return node.op
    return None
