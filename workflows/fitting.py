"""One side's workflow: fitted, applied, described."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from merlin.io import Dataset
from merlin.schema import Schema
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata
from nvtabular import Workflow

from workflows.compile import compile_transform
from workflows.config import Sequence
from workflows.graph import build_workflow
from workflows.inputs import FeatureSpec, Input, Planned, canonical
from workflows.shapes import arrays, no_arrays, specs


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
            workflow = build_workflow(planned, scratch)
            workflow.fit(_dataset(rows, gpu))
            workflow.save(str(save))
        return cls(planned, inputs, workflow, gpu)

    def transform(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the features of raw rows: int64 or float32, [n], or [n, max_length] padded with zeros."""
        if not len(frame):
            return no_arrays(self.specs())
        with quiet():
            out = self.workflow.transform(_dataset(canonical(frame, self.inputs), self.gpu)).compute()
        return arrays(out.to_pandas() if self.gpu else out, self.planned, self.specs())

    def specs(self) -> list[FeatureSpec]:
        """Return what a tower needs to know of each feature, in the recipe's order."""
        return specs(self.workflow, self.planned)

    def compile(self, directory: Path, history: Sequence | None = None) -> None:
        """Write the transform directory that `ensemble/serving/transform.py` reads; it makes the history too."""
        compile_transform(self.workflow, self.planned, self.inputs, directory, history)


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
