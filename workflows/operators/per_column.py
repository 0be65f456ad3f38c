"""What the NVTabular operators share: to work column by column, and what NVTabular is told of their output.

Each class goes before NVTabular's in the list of bases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from merlin.schema import ColumnSchema, Schema, Tags
from nvtabular.ops import ColumnSelector


class PerColumn:
    """A new column of each that is selected."""

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        out = {name: self._column(name, df[name]) for name in col_selector.names}
        return type(df)(out)

    def _column(self, name: str, values: Any) -> Any:
        """Return what becomes of a series, as one with the same index."""
        raise NotImplementedError


class CodesOut:
    """Categorical codes."""

    @property
    def output_dtype(self) -> type:
        return np.int64

    @property
    def output_tags(self) -> list[Tags]:
        return [Tags.CATEGORICAL]


class ListsOut:
    """A list in each row."""

    def _compute_shape(self, col_schema: ColumnSchema, input_schema: Schema) -> ColumnSchema:
        return super()._compute_shape(col_schema, input_schema).with_shape((None, (0, None)))  # type: ignore[misc]


class VectorsOut(ListsOut):
    """A list of numbers in each row, float32."""

    @property
    def output_dtype(self) -> type:
        return np.float32

    @property
    def output_tags(self) -> list[Tags]:
        return [Tags.CONTINUOUS]
