"""Features that are no finite float32: found before anything is trained on them, by column, row and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workflows.errors import DataError
from workflows.features.plan import Planned

_ROWS = 1 << 18


def check_finite(
    features: Mapping[str, np.ndarray], planned: Sequence[Planned], raw: pd.DataFrame, table: str, first: int = 0
) -> None:
    """Raise DataError where a feature of numbers is infinite or NaN; `raw` holds the rows that they were made of.

    `first` is the number of the first row in its table.
    """
    for entry in planned:
        for name in entry.arrays:
            values = features.get(name)
            if values is None or values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            read = ", ".join(f"{column} = {_shown(raw[column].iloc[row])}" for column in entry.columns)
            raise DataError(
                f"{table}: column {entry.column!r}, row {first + row}: the feature {name!r} of {read} is not a finite "
                "float32; correct the value, make it null, or set clip_min and clip_max"
            )


def check_rows(fitted: Any, planned: Sequence[Planned], raw: pd.DataFrame, table: str) -> None:
    """Transform all rows of a table and raise DataError as `check_finite` does, if there are features of numbers."""
    if not any(entry.is_numbers or len(entry.arrays) > 1 for entry in planned):
        return
    for first in range(0, len(raw), _ROWS):
        rows = raw.iloc[first : first + _ROWS].reset_index(drop=True)
        check_finite(fitted.transform(rows), planned, rows, table, first)


def _shown(value: Any) -> str:
    return str(value.tolist() if isinstance(value, np.ndarray) else value)[:80]
