"""The few things that pandas and cuDF columns do differently."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def on_host(values: Any) -> pd.Series:
    """Return a column as pandas has it."""
    return values if isinstance(values, pd.Series) else values.to_pandas(nullable=True)


def floats(values: Any) -> npt.NDArray[np.float64]:
    """Return a column of numbers as float64 [n]; null is NaN."""
    return on_host(values).to_numpy(dtype=np.float64, na_value=np.nan)


def lists(values: Any) -> list[Any]:
    """Return a column of lists as Python lists or arrays; null is None."""
    return list(values) if isinstance(values, pd.Series) else list(values.to_arrow().to_pylist())


def of_lists(like: Any, values: list[Any]) -> Any:
    """Return a column of the type of `like`, with its index, of lists.

    Where all of them are empty they are None: Merlin cannot tell the type of such a column.
    """
    if not any(map(_length, values)):
        values = [None] * len(values)
    return (
        pd.Series(values, index=like.index, dtype=object)
        if isinstance(like, pd.Series)
        else type(like)(values, index=like.index)
    )


def is_lists(values: Any) -> bool:
    """Return whether a column holds lists; one of nothing but nulls does not."""
    if not isinstance(values, pd.Series):
        return hasattr(values, "list")
    if values.dtype != object:
        return False
    return isinstance(next((value for value in values if value is not None), None), (list, tuple, np.ndarray))


def counts_of_values(values: Any) -> Any:
    """Return how many values a column has that are not null, those of lists one by one, as a column of one row."""
    if not is_lists(values):
        return type(values)([int(values.notna().sum())])
    if isinstance(values, pd.Series):
        return pd.Series([sum(map(_length, values))])
    return type(values)([int(values.list.leaves.notna().sum())])


def _length(value: Any) -> int:
    return 0 if value is None else len(value)
