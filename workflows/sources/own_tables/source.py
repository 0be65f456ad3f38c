"""The user's own tables: files of any format, local or wherever fsspec reaches, see docs/tables.md.

Users and items are held in memory, interactions are read a chunk at a time, twice: once for their users and items.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from workflows.columns import Columns
from workflows.config import OwnTables
from workflows.errors import DataError
from workflows.files import atomic_directory, json_bytes
from workflows.progress import Progress
from workflows.sources.own_tables.cast import Caster
from workflows.sources.own_tables.entities import joined, seen, with_titles
from workflows.sources.own_tables.formats.chunks import chunks, schema
from workflows.sources.own_tables.formats.files import EXAMPLES, Chunk, Located, locate
from workflows.sources.own_tables.formats.files import state as state_of
from workflows.sources.own_tables.given import check_name_of_split, locate_given
from workflows.sources.own_tables.plan import IDS, Target, check_thresholds, id_kind, named, targets
from workflows.sources.own_tables.rows import Ledger
from workflows.sources.own_tables.types import FIRST_PLACE, Kind
from workflows.tables.store import write_tables

TABLES: Final = ("users", "items", "interactions")
REPORT: Final = "source.json"
"""Beside the stored tables: which files they were made of, what was left out and why."""
TOLD_EVERY_ROWS: Final = 2_000_000


def fetch(config: OwnTables, cache: Path, progress: Progress) -> OwnRows:
    """Return the tables, read when they are stored.

    Raises
    ------
    DataError
        Files are missing, unreadable or of other columns than the recipe says; `save` raises it for bad rows, too.
    """
    return OwnRows(config, progress)


def state(config: OwnTables) -> dict[str, Any]:
    """Return name, size and version of every file of every table."""
    parts = locate_given(config)
    places = {table: locate(file, table) for table in TABLES if (file := getattr(config, table)) and file.path}
    if parts:
        places["interactions"] = parts.located
    return {table: state_of(located) for table, located in places.items()}


class OwnRows:
    """The user's tables as the recipe describes them: `users`, `items`, and `interactions` in chunks."""

    def __init__(self, config: OwnTables, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.located: dict[str, Located] = {}
        self.targets: dict[str, list[Target]] = {}
        self._held: dict[str, list[Chunk]] = {}
        self._given = locate_given(config)
        self._plan()

    @property
    def dated(self) -> bool:
        """Whether the interactions have a time; without one they all have timestamp 0."""
        return self._has_times or self.config.timestamp_unit == "order"

    @property
    def _has_times(self) -> bool:
        return any(target.role == "timestamp" for target in self.targets["interactions"])

    @property
    def rated(self) -> bool:
        """Whether the interactions have a rating; without one it is 1.0."""
        return any(target.role == "rating" for target in self.targets["interactions"])

    def save(self, directory: Path) -> None:
        """Write the tables and `source.json`: `directory` appears whole or not at all.

        Raises
        ------
        DataError
            A row is bad and the recipe refuses such rows, or no row is left.
        """
        ledger = Ledger(refuse=self.config.bad_rows == "refuse")
        users, items = self.users_and_items(ledger)
        with atomic_directory(directory) as temporary:
            write_tables(temporary, self.interactions(users, items, ledger), users, items)
            (temporary / REPORT).write_bytes(json_bytes(self.report(ledger), 2))
        self._tell(ledger)

    def users_and_items(self, ledger: Ledger) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return both tables, with all users and items of the interactions; what a table does not say is null."""
        held = {table: self._read(table, ledger) for table in ("users", "items") if table in self.located}
        self.progress("reading the interactions once for their users and items, and once for themselves")
        config = self.config
        first = Ledger(ledger.refuse)
        try:
            entities = seen(self.good_rows(first), config.min_user_rows, config.min_item_rows)
        except DataError:
            ledger.take(first)
            raise
        tables = {}
        for table, ids in (("users", entities.users), ("items", entities.items)):
            column = IDS[table][0]
            tables[table], missing = joined(held.get(table), column, ids, self._filtered)
            counts = ledger.of(table)
            counts.without_attributes, counts.such_as = len(missing), missing[:EXAMPLES].tolist()
        return tables["users"], with_titles(tables["items"], entities.titles)

    def interactions(self, users: pd.DataFrame, items: pd.DataFrame, ledger: Ledger) -> Iterator[pd.DataFrame]:
        """Yield the rows of `users` and `items`, every frame with the same columns and types, its index 0..n-1.

        Whole numbers in the user's own columns are pandas' Int64, which has nulls.
        """
        known = {column: pd.Index(frame[column]) for frame, column in ((users, Columns.User), (items, Columns.Item))}
        for frame in self.good_rows(ledger):
            if not self._filtered:
                yield frame
                continue
            among = np.logical_and.reduce([ids.get_indexer(frame[column]) >= 0 for column, ids in known.items()])
            ledger.of("interactions").few += int((~among).sum())
            yield frame[among].reset_index(drop=True)

    @property
    def _filtered(self) -> bool:
        return max(self.config.min_user_rows, self.config.min_item_rows) > 1

    def good_rows(self, ledger: Ledger) -> Iterator[pd.DataFrame]:
        """Yield the rows that are well-formed and not below `at_least`."""
        caster = Caster("interactions", self.targets["interactions"], self.config.timestamp_unit, ledger)
        read = 0
        for chunk in self._chunks("interactions"):
            frame = caster.frame(chunk)
            start = FIRST_PLACE + read
            if (read + len(chunk.rows)) // TOLD_EVERY_ROWS > read // TOLD_EVERY_ROWS:
                self.progress(f"interactions: {read + len(chunk.rows):,} rows read")
            read += len(chunk.rows)
            if not self._has_times:  # the order of rows where that is their time
                frame[Columns.Timestamp] = start + np.arange(len(frame)) if self.dated else np.int64(0)
            if not self.rated:
                frame[Columns.Rating] = np.float32(1)
            if self._given:
                frame[Columns.Split] = self._given.part_of[chunk.file]
            yield self._enough(frame, ledger)

    def _enough(self, frame: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
        """Return the rows whose columns are at least what the recipe says; nulls are not."""
        enough = np.ones(len(frame), dtype=np.bool_)
        for name, least in self.config.at_least.items():
            enough &= (frame[name] >= least).fillna(False).to_numpy(dtype=np.bool_)
        ledger.of("interactions").below += int((~enough).sum())
        return frame if enough.all() else frame[enough].reset_index(drop=True)

    def report(self, ledger: Ledger) -> dict[str, Any]:
        """Return what `source.json` says."""
        columns = {
            table: {target.name: {"from": target.source, "type": target.kind} for target in targets}
            for table, targets in self.targets.items()
        }
        return {
            "files": {table: state_of(located) for table, located in self.located.items()},
            "columns": columns,
            "timestamp_unit": self.config.timestamp_unit if self.dated else None,
            "rows": msgspec.to_builtins(ledger.counts),
            "left_out": msgspec.to_builtins(ledger.problems),
        }

    def _plan(self) -> None:
        """Find the files, and decide on every column's name and type."""
        schemas: dict[str, pa.Schema] = {}
        columns: dict[str, dict[str, str]] = {}
        for table in TABLES:
            if (file := getattr(self.config, table)) is not None:
                parts = self._given if table == "interactions" else None
                located = self.located[table] = parts.located if parts else locate(file, table)
                schemas[table] = schema(located)
                columns[table] = named(located, schemas[table])
                if parts:
                    check_name_of_split(located, columns[table])
        samples = {table: self._sample(table, list(columns[table].values())) for table in self.located}
        ids = self._id_kinds(schemas, columns, samples)
        for table, located in self.located.items():
            self.targets[table] = targets(located, schemas[table], columns[table], samples[table], ids)
            check_thresholds(self.config.at_least, self.targets[table], table)
            described = ", ".join(f"{target.name} {target.kind}" for target in self.targets[table])
            files = f" ({len(located.paths):,} files)" if len(located.paths) > 1 else ""
            self.progress(f"{table}: {located.config.path}{files}: {described}")

    def _sample(self, table: str, names: list[str]) -> list[Chunk]:
        """Return what types are guessed from: all rows of users and items, the first ones of the interactions."""
        read = chunks(self.located[table], names)
        if table == "interactions":
            return [chunk for chunk, _ in zip(read, range(1), strict=False)]
        self._held[table] = list(read)
        return self._held[table]

    def _id_kinds(self, schemas: Any, columns: Any, samples: Any) -> dict[str, Kind]:
        """Ids are strings in every table where they are in one."""
        kinds: dict[str, Kind] = {}
        for table, located in self.located.items():
            for name in IDS[table]:
                kind = id_kind(located, schemas[table], name, columns[table][name], samples[table])
                kinds[name] = "string" if "string" in (kind, kinds.get(name)) else kind
        return kinds

    def _chunks(self, table: str) -> Iterator[Chunk]:
        return chunks(self.located[table], [target.source for target in self.targets[table]])

    def _read(self, table: str, ledger: Ledger) -> pd.DataFrame:
        caster = Caster(table, self.targets[table], self.config.timestamp_unit, ledger)
        return caster.unique_frame(self._held[table], IDS[table][0])

    def _tell(self, ledger: Ledger) -> None:
        for table, counts in ledger.counts.items():
            if counts.read > counts.kept:
                self.progress(f"{table}: {counts.read - counts.kept:,} of {counts.read:,} rows left out")
            if counts.below:
                self.progress(f"{table}: {counts.below:,} rows below data.at_least left out")
            if counts.few:
                self.progress(f"{table}: {counts.few:,} rows of users or items with too few rows left out")
            if counts.without_attributes:
                self.progress(f"{table}: {counts.without_attributes:,} more in the interactions, without attributes")
            if counts.without_title:
                self.progress(f"{table}: {counts.without_title:,} without a title, called by their id")
        for problem in ledger.problems:
            self.progress(
                f"  {problem.rows:,} {problem.table}: {problem.column or 'fields'} must be {problem.expected}"
            )
