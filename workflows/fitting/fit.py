"""One side's workflow: fitted, applied, described."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from dask.dataframe.io.io import from_map
from distributed import Client
from merlin.io import Dataset
from nvtabular import Workflow

from workflows.config import Sequence
from workflows.features.canonical import Input, canonical
from workflows.features.plan import FeatureSpec, Planned
from workflows.features.specs import arrays, no_arrays, spec
from workflows.features.workflow import build_workflow
from workflows.fitting.aggregates import Tables
from workflows.fitting.export import compile_transform
from workflows.fitting.statistics import fit_parts, transform_frame
from workflows.fitting.warm_start import grow, rows_of
from workflows.fitting.warm_start_record import Rows


class PartedRows(NamedTuple):
    """Raw rows that are read a part at a time."""

    read: Callable[[int], pd.DataFrame]
    parts: int
    sample: pd.DataFrame
    """Some of them, which show the types of all."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> PartedRows:
        """Return the rows of a frame, in one part."""
        return cls(lambda number: frame, 1, frame)


@dataclass
class FittedSide:
    """The features of one side, fitted on some rows and applicable to any."""

    planned: list[Planned]
    inputs: list[Input]
    workflow: Workflow
    gpu: bool

    @classmethod
    def fit(
        cls,
        planned: list[Planned],
        inputs: list[Input],
        rows: PartedRows,
        gpu: bool,
        save: Path,
        client: Client | None = None,
        aggregates: Tables = MappingProxyType({}),
        earlier: Workflow | None = None,
    ) -> FittedSide:
        """Fit on raw rows and save the NVTabular workflow, with its vocabularies, to `save`.

        It is done on the client's cluster, whose workers see `save` under the same path, or in threads of this process.
        Vocabularies are those of NVTabular, their order included; sums are added up part by part, so that a mean may
        differ in its last digit from that of all rows. With an `earlier` workflow it goes on from that one, see
        `workflows.fitting.warm_start.grow`.
        """
        # NVTabular caches vocabularies by path: a directory that was used before would bring back its old contents.
        scratch = save.with_name(f"{save.name}.scratch")
        scratch.mkdir(parents=True)
        with quiet():
            workflow = build_workflow(planned, str(scratch), aggregates)
            text_columns = [] if gpu else _looked_up_text(planned, inputs)
            # Tasks carry what `read` names: not the sample.
            read_raw, sample = rows.read, canonical(rows.sample, inputs)

            def read(number: int) -> pd.DataFrame:
                return canonical(read_raw(number), inputs, text_columns)

            if gpu:
                workflow.fit(Dataset(from_map(read, range(rows.parts), meta=sample.iloc[:0]), cpu=False))
            else:
                fit_parts(workflow, sample, read, rows.parts, client)
            if earlier:
                grow(workflow, earlier, planned)
            workflow.save(str(save))
        shutil.rmtree(scratch)
        return cls(planned, inputs, workflow, gpu)

    def transform(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the features of raw rows: int64 or float32, [n], or [n, max_length] padded with zeros."""
        if not len(frame):
            return no_arrays(self.specs())
        if self.gpu:
            with quiet():
                rows = Dataset(canonical(frame, self.inputs), cpu=False)
                transformed = self.workflow.transform(rows).compute().to_pandas()
        else:
            text_columns = _looked_up_text(self.planned, self.inputs)
            transformed = transform_frame(self.workflow, canonical(frame, self.inputs, text_columns))
        return arrays(transformed, self.planned, self.specs())

    def specs(self) -> list[FeatureSpec]:
        """Return what a tower needs to know of each feature, in the recipe's order."""
        return [spec(self.workflow, entry) for entry in self.planned]

    def rows_of(self, earlier: Workflow) -> dict[str, Rows]:
        """Return the earlier rows of each embedding table, by feature, see `workflows.fitting.warm_start.rows_of`."""
        coded = [entry for entry, spec in zip(self.planned, self.specs(), strict=True) if spec.cardinality]
        return {entry.output: rows_of(self.workflow, earlier, entry) for entry in coded}

    def compile(self, directory: Path, history: Sequence | None = None) -> None:
        """Write the transform directory that `ensemble/serving/query/transform.py` reads; it makes the history too."""
        compile_transform(self.workflow, self.planned, self.inputs, directory, history)


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


def _looked_up_text(planned: list[Planned], inputs: list[Input]) -> list[str]:
    """Return the columns of text that nothing but a vocabulary looks at, for which each distinct value once will do."""
    others = {column for entry in planned if not entry.feature.keeps_dictionaries for column in entry.columns}
    return [raw.name for raw in inputs if raw.dtype == "string" and not raw.list and raw.name not in others]
