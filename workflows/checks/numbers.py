"""Numbers that no feature can be made of: what the features stage would refuse, found without fitting anything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from workflows.checks.findings import EXAMPLES, Finding
from workflows.config import FeatureSide
from workflows.features.plan import named
from workflows.tables.store import Stored


def number_findings(stored: Stored, query: FeatureSide, item: FeatureSide) -> Iterator[Finding]:
    """Yield the columns that give a feature which is not finite in float32."""
    for side in (query, item):
        for entry in named(side):
            for column, unfit in entry.feature.unfit(entry.column).items():
                table, values = _column(stored, column, "items" if side is item else "users")
                if values is None or not len(rows := np.flatnonzero(unfit(values))):
                    continue
                message = (
                    "makes a feature that is not finite in float32: a NaN in a vector, or a number that is too large"
                )
                remedy = "correct the values, make them null, or set clip_min and clip_max"
                examples = [{"row": int(row), column: str(values.iloc[row])[:60]} for row in rows[:EXAMPLES]]
                yield Finding("error", "not-finite", table, len(rows), len(values), message, remedy, column, examples)


def _column(stored: Stored, column: str, entities: str) -> tuple[str, pd.Series | None]:
    """Return the table that has the column, as the features stage finds it, and its values; None where none has."""
    frame = stored.items if entities == "items" else stored.users
    has = column in pq.read_schema(stored.parts[0]).names
    if has and (entities == "users" or column not in frame):  # of items, what an aggregate is of
        return "interactions", stored.read([column])[column]
    if column not in frame:
        return entities, None
    return entities, frame[column]
