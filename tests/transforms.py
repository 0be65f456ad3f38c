"""A fitted workflow beside its compiled form, and rows as each of the two takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.serving.query.transform import Column, QueryTransform
from workflows.config import FeatureSide
from workflows.features.canonical import Input, describe
from workflows.features.plan import plan
from workflows.fitting.fit import FittedSide, PartedRows


class Compiled:
    """A fitted workflow beside its compiled form."""

    def __init__(self, side: FeatureSide, frame: pd.DataFrame, directory: Path) -> None:
        planned = plan(side, "query.features")
        self.inputs = describe(frame, planned, "query.features")
        self.fitted = FittedSide.fit(planned, self.inputs, PartedRows.of(frame), False, directory / "workflow")
        self.fitted.compile(directory / "transform")
        self.transform = QueryTransform.load(directory / "transform")

    def check(self, rows: Sequence[dict[str, Any]]) -> None:
        """Assert that NVTabular and the compiled form agree on these rows, taken at once and one by one."""
        expected = self.fitted.transform(raw_frame(rows, self.inputs))
        assert_equal(self.transform.compute(columns_of(rows, self.inputs)), expected)
        for position, row in enumerate(rows):
            single = self.transform.compute(columns_of([row], self.inputs))
            assert_equal(single, {name: values[position : position + 1] for name, values in expected.items()})


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (values.dtype, values.shape), name
        if values.dtype == np.float32:
            np.testing.assert_allclose(actual[name], values, rtol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(actual[name], values, err_msg=name)


def raw_frame(rows: Sequence[dict[str, Any]], inputs: list[Input]) -> pd.DataFrame:
    columns = {}
    for entry in inputs:
        values = [row[entry.name] for row in rows]
        dtype = "object" if entry.list or entry.dtype == "string" else {"int64": "Int64"}.get(entry.dtype, "float64")
        columns[entry.name] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(columns)


def columns_of(rows: Sequence[dict[str, Any]], inputs: list[Input]) -> dict[str, Column]:
    """Return the rows as a server would hold them: whatever stands where a value is missing must not matter."""
    columns = {}
    for entry in inputs:
        values = [row[entry.name] for row in rows]
        offsets = None
        if entry.list:
            lists = [value or [] for value in values]
            offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
            values = [value for row in lists for value in row]
        missing = np.array([value is None for value in values], dtype=bool)
        filler: Any = {"string": "a", "int64": 0, "float64": 1.5}[entry.dtype]
        dtype = object if entry.dtype == "string" else entry.dtype
        held = np.empty(len(values), dtype=dtype)
        held[:] = [filler if value is None else value for value in values]
        columns[entry.name] = Column(held, missing if missing.any() else None, offsets)
    return columns
