"""One part of the interactions to features: what a worker does, and does again if it dies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from workflows.columns import Columns
from workflows.features.files import QUERY, ROWS, write_arrays, write_rows
from workflows.features.finite import check_finite
from workflows.features.rows import PARTS, Division
from workflows.files import atomic_file
from workflows.fitting.fit import FittedSide
from workflows.tables.store import read_arrow, to_frame_of_dictionaries


@dataclass(frozen=True)
class Transform:
    """Writes the features and the raw rows of one part of the interactions to the parts of the split."""

    division: Division
    fitted: FittedSide
    out: Path

    def __call__(self, number: int) -> int:
        """Return how many rows the part has."""
        queries = self.division.queries
        raw = read_arrow(queries.parts[number])
        items = to_frame_of_dictionaries(raw.select([Columns.Item]))[Columns.Item]
        index = queries.item_index(items, number)
        raw = raw.append_column(Columns.ItemIndex, pa.array(index))
        joined = queries.join(to_frame_of_dictionaries(raw.select(queries.own())), number)
        features = self.fitted.transform(joined)
        check_finite(features, self.fitted.planned, joined, "interactions", queries.first(number))
        for name in PARTS:
            rows = self.division.rows(name, number)
            if len(rows):
                with atomic_file(self._path(name, QUERY, number)) as path:
                    write_arrays({feature: values[rows] for feature, values in features.items()}, path)
                with atomic_file(self._path(name, ROWS, number)) as path:
                    write_rows(raw.take(rows), path)
        return len(joined)

    def _path(self, name: str, kind: str, number: int) -> Path:
        path = self.out / name / kind
        return path if len(self.division.queries.parts) == 1 else path / f"part-{number:05d}.parquet"
