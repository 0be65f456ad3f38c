"""Target-free aggregates: what the training interactions say about each user or item (NVTabular `JoinGroupby`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
from merlin.io import Dataset
from nvtabular import Workflow
from nvtabular.ops import JoinGroupby

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.features.aggregation import Aggregated, aggregated
from workflows.features.plan import Planned
from workflows.fitting.learned import operator_of
from workflows.operators.codes import Lookup

DAY = 86_400
_UNKNOWN = 3
"""Rows of a table that come before the ids': padding, null and unseen."""


class Table(NamedTuple):
    """Ids, int64 or str objects [n], and the figures by code, float32 [n + 3, statistics]."""

    ids: npt.NDArray[Any]
    figures: npt.NDArray[np.float32]
    moments: npt.NDArray[np.float64]
    """What each statistic is normalised by, mean and standard deviation, [statistics, 2]."""


Tables = Mapping[str, Table]


def fit_aggregates(
    planned: Iterable[Planned], read: Callable[[int], pd.DataFrame], parts: int, earlier: Workflow | None = None
) -> Tables:
    """Return the table of every aggregate, by feature, given the training interactions part by part.

    Figures are normalised as in the `earlier` workflow, if there is one: over the ids that it knew.
    """
    entries = aggregated(planned)
    if not entries:
        return {}
    from_map: Any = dd.from_map  # type: ignore[attr-defined]
    rows = from_map(read, range(parts), meta=read(0).iloc[:0])
    known = {entry.output: operator_of(earlier, entry.output, Lookup).moments for entry in entries} if earlier else {}
    return {entry.output: _table(entry, rows, known.get(entry.output)) for entry in entries}


def _table(entry: Aggregated, rows: Any, moments: npt.NDArray[np.float64] | None) -> Table:
    feature = entry.feature
    numbers = list(dict.fromkeys([*([feature.of] if "mean" in feature.statistics else []), Columns.Timestamp]))
    # NVTabular caches by path: a directory of its own.
    with tempfile.TemporaryDirectory() as scratch:
        op = JoinGroupby(cont_cols=numbers, stats=["count", "mean", "max"], out_path=scratch)
        Workflow([entry.key] >> op).fit(Dataset(rows, cpu=True))
        found = pd.read_parquet(op.categories[entry.key]).dropna(subset=[entry.key])
    found = found.sort_values(entry.key, ignore_index=True)
    columns = [_figures(statistic, found, entry.key, feature.of) for statistic in feature.statistics]
    with np.errstate(over="ignore", invalid="ignore"):
        if moments is None:
            moments = np.array([(column[_UNKNOWN:].mean(), column[_UNKNOWN:].std()) for column in columns])
        mean, std = moments.T
        figures = ((np.stack(columns, axis=1) - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
    if _is_odd(figures, moments).any():
        wrong = feature.statistics[int(_is_odd(figures, moments).argmax())]
        raise DataError(
            f"column {feature.of!r}: the {wrong} that {entry.output!r} is made of is not finite; correct its values"
        )
    return Table(found[entry.key].to_numpy(), figures, moments)


def _is_odd(figures: npt.NDArray[np.float32], moments: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which of the statistics, bool [statistics], or what it is normalised by is not finite."""
    return ~(np.isfinite(figures).all(axis=0) & np.isfinite(moments).all(axis=1))


def _figures(statistic: str, found: pd.DataFrame, key: str, of: str) -> npt.NDArray[np.float64]:
    """Return one statistic by code, float64 [n + 3]."""
    if statistic == "count":
        values, unknown = np.log1p(_floats(found[f"{key}_count"])), 0.0
    elif statistic == "mean":
        values = _floats(found[f"{key}_{of}_mean"])
        values = np.where(np.isnan(values), np.nanmean(values), values)  # of ids that have none
        unknown = float(values.mean())
    else:
        last = _floats(found[f"{key}_{Columns.Timestamp}_max"])
        values = np.log1p((last.max() - last) / DAY)
        unknown = float(values.max())
    return np.concatenate([np.full(_UNKNOWN, unknown), values])


def _floats(values: pd.Series) -> npt.NDArray[np.float64]:
    return values.to_numpy(dtype=np.float64)
