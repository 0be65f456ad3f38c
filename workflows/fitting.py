"""One side's workflow: fitted, applied, described."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from merlin.io import Dataset
from merlin.schema import ColumnSchema, Schema, Tags
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata
from nvtabular import Workflow

from workflows.columns import Columns
from workflows.compile import cardinality, compile_transform, max_length
from workflows.config import Continuous, Sequence
from workflows.graph import build_workflow
from workflows.inputs import HISTORY_AGE, FeatureSpec, Input, Planned, canonical

ID_TAGS = {Columns.User: Tags.USER_ID, Columns.Item: Tags.ITEM_ID}


class FittedSide:
    """The features of one side, fitted on some rows and applicable to any."""

    def __init__(self, planned: list[Planned], inputs: list[Input], workflow: Workflow, gpu: bool) -> None:
        self.planned = planned
        self.inputs = inputs
        self.workflow = workflow
        self.gpu = gpu

    @classmethod
    def fit(cls, planned: list[Planned], inputs: list[Input], frame: pd.DataFrame, gpu: bool, save: Path) -> FittedSide:
        """Fit on the raw columns of `frame` and save the NVTabular workflow, with its vocabularies, to `save`."""
        rows = canonical(frame, inputs)
        # NVTabular caches vocabularies by path: a directory that was used before would bring back its old contents.
        with tempfile.TemporaryDirectory() as scratch, quiet():
            workflow = build_workflow(planned, rows, scratch)
            workflow.fit(_dataset(rows, gpu))
            workflow.save(str(save))
        return cls(planned, inputs, workflow, gpu)

    def transform(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the features of raw rows: int64 [n], float32 [n], or int64 [n, max_length] that ends in zeros."""
        if not len(frame):
            return {spec.name: np.zeros(_shape(spec, 0), spec.dtype) for spec in self.specs()}
        with quiet():
            out = self.workflow.transform(_dataset(canonical(frame, self.inputs), self.gpu)).compute()
        out = out.to_pandas() if self.gpu else out
        return {spec.name: _array(out[spec.name], spec) for spec in self.specs()}

    def specs(self) -> list[FeatureSpec]:
        """Return what a tower needs to know of each feature, in the recipe's order."""
        return [
            FeatureSpec(
                name=entry.output,
                source=entry.column,
                kind=_kind(entry),
                dtype="float32" if isinstance(entry.feature, Continuous) else "int64",
                cardinality=cardinality(self.workflow, entry),
                max_length=max_length(entry),
            )
            for entry in self.planned
        ]

    def compile(self, directory: Path, history: Sequence | None = None) -> None:
        """Write the transform directory that `ensemble/serving/transform.py` reads; it makes the history too."""
        compile_transform(self.workflow, self.planned, self.inputs, directory, history)


def merlin_schema(query: list[FeatureSpec], item: list[FeatureSpec]) -> Schema:
    """Return both sides as one Merlin schema: USER or ITEM, CATEGORICAL or CONTINUOUS, ids, integer domains."""
    ages = [_history_age(spec) for spec in query if spec.kind == "sequence"]
    return Schema([_column(spec, Tags.USER) for spec in query] + ages + [_column(spec, Tags.ITEM) for spec in item])


def write_schema(schema: Schema, directory: Path) -> None:
    """Write `schema.pbtxt` (TensorFlow metadata, what `merlin.models` reads)."""
    TensorflowMetadata.from_merlin_schema(schema).to_proto_text_file(str(directory), "schema.pbtxt")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep NVTabular's and Dask's warnings about their own insides away from the user."""
    loggers = [logging.getLogger(name) for name in ("merlin", "nvtabular", "distributed")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _dataset(rows: pd.DataFrame, gpu: bool) -> Dataset:
    return Dataset(rows, cpu=not gpu)


def _kind(entry: Planned) -> Any:
    if isinstance(entry.feature, Continuous):
        return "continuous"
    return "list" if max_length(entry) else "categorical"


def _shape(spec: FeatureSpec, rows: int) -> tuple[int, ...]:
    return (rows, spec.max_length) if spec.kind == "list" else (rows,)


def _array(column: pd.Series, spec: FeatureSpec) -> np.ndarray:
    if spec.kind != "list":
        return column.to_numpy(dtype=spec.dtype)
    padded = np.zeros(_shape(spec, len(column)), dtype=np.int64)
    lengths = np.fromiter(map(len, column), dtype=np.int64, count=len(column))
    padded[np.arange(spec.max_length) < lengths[:, None]] = np.concatenate(
        [np.asarray(row, np.int64) for row in column]
    )
    return padded


def _column(spec: FeatureSpec, side: Tags) -> ColumnSchema:
    tags = [side, Tags.CONTINUOUS if spec.kind == "continuous" else Tags.CATEGORICAL]
    if spec.source in ID_TAGS and spec.kind == "categorical" and spec.name == spec.source:
        tags += [ID_TAGS[spec.source], Tags.ID]
    if spec.kind == "sequence":
        tags.append(Tags.SEQUENCE)
    properties: dict[str, Any] = {}
    if spec.cardinality:
        properties["domain"] = {"min": 0, "max": spec.cardinality - 1, "name": spec.name}
    dims = (None, spec.max_length) if spec.max_length else (None,)
    return ColumnSchema(spec.name, dtype=np.dtype(spec.dtype), tags=tags, properties=properties, dims=dims)


def _history_age(spec: FeatureSpec) -> ColumnSchema:
    tags = [Tags.USER, Tags.CONTINUOUS, Tags.SEQUENCE]
    return ColumnSchema(HISTORY_AGE, dtype=np.dtype("float32"), tags=tags, dims=(None, spec.max_length))
