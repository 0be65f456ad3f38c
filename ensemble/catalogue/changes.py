"""Changes of a release's items: users' files, checked, with vectors from the release's own item tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ensemble.catalogue.item_file import ids_of, read_ids, read_table
from ensemble.release.congruence import as_column
from ensemble.release.item_columns import Kind, items_of, kinds_of, read_items
from ensemble.serving.errors import InvalidRequest
from ensemble.serving.files.release import Release
from ensemble.serving.query.tower import Tower
from ensemble.serving.query.transform import QueryTransform
from ensemble.serving.search.candidates import has_ranker
from ensemble.serving.search.catalogue import Catalogue
from ensemble.serving.search.delta import Delta, DeltaLog
from workflows.columns import Columns
from workflows.errors import DataError

Operation = Literal["add", "update", "remove"]
_BATCH = 8192


@dataclass(frozen=True)
class Change:
    """Items to add, update or remove."""

    operation: Operation
    ids: np.ndarray
    """int64 or `str` objects [m]."""
    table: pd.DataFrame | None = None
    """Every column of the release's item table, m rows; None: the items are removed."""
    vectors: np.ndarray | None = None
    """float32 [m, d]."""


class LiveItems:
    """The items of a release and of the deltas that follow it, against which a change is checked."""

    def __init__(self, release: Release, delta: Path | None = None) -> None:
        """Load the items of a verified release and of the directory of changes that follow it.

        Raise InvalidRelease if the release's parts do not fit each other, or a delta package is damaged.
        """
        self.release = release
        self.catalogue = Catalogue.load(release)
        self.table = items_of(release)
        """Raw columns of every row of the catalogue, dead ones too."""
        self._transform = QueryTransform.load(release.path / "item")
        inputs = self._transform.inputs
        input_kinds = {str(column["name"]): Kind(str(column["dtype"]), bool(column["list"])) for column in inputs}
        self.kinds = {name: input_kinds.get(name, kind) for name, kind in kinds_of(release).items()}
        """The type of every column: what the item tower is given if it reads it."""
        self.log = None if delta is None else DeltaLog(delta, release)
        self.deltas: list[Delta] = []
        while self.log is not None and self.log.changed():
            with self.log.following() as package:
                self.apply(package)
        self.inputs = list(input_kinds)
        """The columns that the item transform reads."""

    def apply(self, delta: Delta) -> None:
        """Add the items of a package, or remove them."""
        self.catalogue = self.catalogue.with_delta(delta)
        if not delta.removes:
            added = read_items(delta, int(delta.manifest["items"]), self.kinds[Columns.Item].dtype)
            self.table = pd.concat([self.table, added], ignore_index=True)
        self.deltas.append(delta)

    def adding(self, path: Path) -> Change:
        """Read new items from a file with every column that the item tower reads, and encode them with that tower.

        Raise DataError, which names file and row, if an item is in the catalogue already, a column is missing, or a
        value is of another type.
        """
        needed = list(dict.fromkeys([Columns.Item, *self.inputs]))
        table = read_table(path, self.kinds, needed)
        rows = self._live_rows(table[Columns.Item])
        if (rows >= 0).any():
            raise _wrong(path, table[Columns.Item], rows >= 0, "is in the catalogue already; use `items update`")
        return self._change("add", path, table)

    def updating(self, path: Path) -> Change:
        """Read changed items from a file; columns that it does not have keep their values.

        Raise DataError, which names file and row, if an item is not in the catalogue, or a value is of another type.
        """
        table = read_table(path, self.kinds, [Columns.Item])
        rows = self._live_rows(table[Columns.Item])
        if (rows < 0).any():
            raise _wrong(path, table[Columns.Item], rows < 0, "is not in the catalogue; use `items add`")
        known = self.table.iloc[rows].reset_index(drop=True)
        return self._change("update", path, known.assign(**{str(name): table[name] for name in table}))

    def removing(self, what: list[str]) -> Change:
        """Collect items to remove: of one file (.parquet, .csv, .jsonl) with a column of item ids, or the ids
        themselves.

        Raise DataError if an item is not in the catalogue, or an id is not of the release's type.
        """
        place, kind = Path(what[0]), self.kinds[Columns.Item]
        is_file = len(what) == 1 and place.suffix.lower() in (".parquet", ".csv", ".jsonl")
        ids = read_ids(place, kind) if is_file else ids_of(what, kind)
        rows = self._live_rows(ids)
        if (rows < 0).any():
            raise _wrong(place if is_file else Path("item ids"), ids, rows < 0, "is not in the catalogue")
        return Change("remove", ids_array(ids, kind))

    def whole(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return items with every column of the release, null where the table lacks it."""
        absent = [name for name in self.kinds if name not in table]
        return table.assign(**dict.fromkeys(absent))[list(self.kinds)]

    def vectors(self, table: pd.DataFrame, path: Path) -> np.ndarray:
        """Encode items with the compiled item transform and the item tower; return float32 [m, d].

        Raise DataError if the transform refuses a value, or an item has no finite vector.
        """
        tower = Tower(self.release, "item")
        parts = []
        for start in range(0, len(table), _BATCH):
            part = table.iloc[start : start + _BATCH]
            columns = {
                str(column["name"]): as_column(part[column["name"]], column["dtype"], column["list"])
                for column in self._transform.inputs
            }
            try:
                parts.append(tower.encode(self._transform.compute(columns)))
            except InvalidRequest as error:
                raise DataError(f"{path}: rows from {start}: {error}") from None
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _change(self, operation: Operation, path: Path, table: pd.DataFrame) -> Change:
        if has_ranker(self.release):
            raise DataError(
                f"{self.release.path}: the release ranks its candidates, and its ranker knows only the items that "
                "it was trained with; retrain, or release without [ranking]. `items remove` works"
            )
        whole = self.whole(table)
        ids = ids_array(whole[Columns.Item], self.kinds[Columns.Item])
        return Change(operation, ids, whole, self.vectors(whole, path))

    def _live_rows(self, ids: pd.Series) -> np.ndarray:
        """Return the row of every live item, int64 [m]; -1 for other ids."""
        rows = self.catalogue.ids.rows_of(ids_array(ids, self.kinds[Columns.Item]))
        return np.where((rows >= 0) & self.catalogue.rows.live[rows], rows, -1)


def ids_array(ids: pd.Series, kind: Kind) -> np.ndarray:
    """Return item ids as a catalogue stores them: int64 or `str` objects [n]."""
    return ids.to_numpy(dtype=object if kind.dtype == "string" else np.int64)


def _wrong(path: Path, ids: pd.Series, bad: np.ndarray, what: str) -> DataError:
    row = int(np.flatnonzero(bad)[0])
    more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
    return DataError(f"{path}: column '{Columns.Item}', row {row}: item {ids.iloc[row]!r} {what}{more}")
