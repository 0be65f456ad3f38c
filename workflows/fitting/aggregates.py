"""Target-free aggregates: what the training interactions say about each user or item."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
from nvtabular import Workflow

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.features.kinds.aggregate import Aggregate, aggregated
from workflows.features.plan import Planned
from workflows.fitting.learned import operator_of
from workflows.operators.codes import FIRST_KNOWN, Lookup

DAY = 86_400


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
    from_map: Any = dd.from_map
    rows = from_map(read, range(parts), meta=read(0).iloc[:0])
    tables = {}
    for entry, feature in entries:
        moments = operator_of(earlier, entry.output, Lookup).moments if earlier else None
        tables[entry.output] = _table(entry, feature, rows, moments)
    return tables


def _table(entry: Planned, feature: Aggregate, rows: Any, moments: npt.NDArray[np.float64] | None) -> Table:
    statistics = _by_id(rows, entry.column, feature.of if "mean" in feature.statistics else None)
    columns = np.stack([_figures(statistic, statistics) for statistic in feature.statistics], axis=1)
    with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means where there is no number
        if moments is None:
            least = np.nanmin(columns[FIRST_KNOWN:], axis=0)
            above = columns[FIRST_KNOWN:] - least  # exactly 0 where all are equal
            moments = np.stack([least + np.nanmean(above, axis=0), np.nanstd(above, axis=0)], axis=1)
        mean, std = moments.T
        columns = np.where(np.isnan(columns), np.nanmean(columns, axis=0), columns)
        figures = ((columns - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
    if _is_odd(figures, moments).any():
        wrong = feature.statistics[int(_is_odd(figures, moments).argmax())]
        raise DataError(
            f"column {feature.of!r}: the {wrong} that {entry.output!r} is made of is not finite; correct its values"
        )
    return Table(statistics.index.to_numpy(), figures, moments)


def _by_id(rows: Any, key: str, of: str | None) -> pd.DataFrame:
    """Return the count, the mean and the last time of each id's rows, by id in rising order.

    The mean is that of the rows that have a number, NaN where an id has none of them. NVTabular's `JoinGroupby` divides
    by all rows.
    """
    plain = rows.map_partitions(_plain, key, of, meta=_plain(rows._meta, key, of))
    statistics = plain.groupby("id").agg({"time": ["count", "max"], "number": ["mean"]}).compute().sort_index()
    return statistics.set_axis(["count", "last", "mean"], axis=1)


def _plain(rows: pd.DataFrame, key: str, of: str | None) -> pd.DataFrame:
    ids = rows[key].astype(object) if isinstance(rows[key].dtype, pd.CategoricalDtype) else rows[key]
    try:
        numbers: Any = np.nan if of is None else rows[of].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {of!r}: an aggregate needs numbers: {error}") from None
    if np.isinf(numbers).any():
        raise DataError(f"column {of!r}: an infinity among the training rows has no mean; make it null")
    return pd.DataFrame({"id": ids, "time": rows[Columns.Timestamp], "number": numbers})


def _is_odd(figures: npt.NDArray[np.float32], moments: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which of the statistics, bool [statistics], or what it is normalised by is not finite."""
    return ~(np.isfinite(figures).all(axis=0) & np.isfinite(moments).all(axis=1))


def _figures(statistic: str, statistics: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return one statistic by code, float64 [n + 3]; NaN where it is the mean of all others."""
    if statistic == "count":
        values, unknown = np.log1p(_floats(statistics["count"])), 0.0
    elif statistic == "mean":
        values, unknown = _floats(statistics["mean"]), np.nan
    else:
        last = _floats(statistics["last"])
        values = np.log1p((last.max() - last) / DAY)
        unknown = float(values.max())
    return np.concatenate([np.full(FIRST_KNOWN, unknown), values])


def _floats(values: pd.Series) -> npt.NDArray[np.float64]:
    return values.to_numpy(dtype=np.float64)
