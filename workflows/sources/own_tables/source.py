"""The user's own tables: files of any format, local or wherever fsspec reaches, see docs/tables.md.

Users and items are held in memory, interactions are read a chunk at a time, twice: once for their users and items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
from msgspec.structs import replace

from workflows.columns import Columns
from workflows.config import GivenSplit, OwnTables
from workflows.errors import DataError
from workflows.files import atomic_directory, json_bytes
from workflows.progress import Progress
from workflows.sources.own_tables.cast import Caster
from workflows.sources.own_tables.entities import joined, seen, with_titles
from workflows.sources.own_tables.formats.chunks import chunks, schema
from workflows.sources.own_tables.formats.files import EXAMPLES, Chunk, Located, locate
from workflows.sources.own_tables.formats.files import state as state_of
from workflows.sources.own_tables.plan import IDS, Target, check_thresholds, id_kind, named, targets
from workflows.sources.own_tables.rows import Ledger
from workflows.sources.own_tables.types import FIRST_PLACE, Kind
from workflows.tables.store import write_tables

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
    return {table: state_of(located) for table, located in _locate_tables(config)[0].items()}


class OwnRows:
    """The user's tables as the recipe describes them: `users`, `items`, and `interactions` in chunks."""

    def __init__(self, config: OwnTables, progress: Progress) -> None:
        self.config = config
        self.progress = progress
        self.located, self._part_of = _locate_tables(config)
        self.targets: dict[str, list[Target]] = {}
        self._held: dict[str, list[Chunk]] = {}
        self._plan()
        self._filtered = max(config.min_user_rows, config.min_item_rows) > 1
        roles = {target.role for target in self.targets["interactions"]}
        self._has_times, self._has_ratings = "timestamp" in roles, "rating" in roles
        self._dated = self._has_times or config.timestamp_unit == "order"

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
        held = {
            table: self._caster(table, ledger).unique_frame(read, IDS[table][0]) for table, read in self._held.items()
        }
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

    def good_rows(self, ledger: Ledger) -> Iterator[pd.DataFrame]:
        """Yield the rows that are well-formed and not below `at_least`."""
        caster, read = self._caster("interactions", ledger), 0
        sources = [target.source for target in self.targets["interactions"]]
        for chunk in chunks(self.located["interactions"], sources):
            frame, _ = caster.good(chunk)
            start = FIRST_PLACE + read
            if (read + len(chunk.rows)) // TOLD_EVERY_ROWS > read // TOLD_EVERY_ROWS:
                self.progress(f"interactions: {read + len(chunk.rows):,} rows read")
            read += len(chunk.rows)
            if not self._has_times:  # the order of rows where that is their time
                frame[Columns.Timestamp] = start + np.arange(len(frame)) if self._dated else np.int64(0)
            if not self._has_ratings:
                frame[Columns.Rating] = np.float32(1)
            if self._part_of:
                frame[Columns.Split] = self._part_of[chunk.file]
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
            "timestamp_unit": self.config.timestamp_unit if self._dated else None,
            "rows": msgspec.to_builtins(ledger.counts),
            "left_out": msgspec.to_builtins(ledger.problems),
        }

    def _plan(self) -> None:
        """Find the files, and decide on every column's name and type."""
        schemas = {table: schema(located) for table, located in self.located.items()}
        columns = {table: named(located, schemas[table]) for table, located in self.located.items()}
        if self._part_of:
            _check_name_of_split(self.located["interactions"], columns["interactions"])
        samples = {table: self._sample(table, list(columns[table].values())) for table in self.located}
        ids: dict[str, Kind] = {}
        for table, located in self.located.items():
            for name in IDS[table]:  # ids are strings in every table where they are in one
                kind = id_kind(located, schemas[table], name, columns[table][name], samples[table])
                ids[name] = "string" if "string" in (kind, ids.get(name)) else kind
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

    def _caster(self, table: str, ledger: Ledger) -> Caster:
        return Caster(table, self.targets[table], self.config.timestamp_unit, ledger)

    def _tell(self, ledger: Ledger) -> None:
        for table, counts in ledger.counts.items():
            if counts.read > counts.kept:
                self.progress(f"{table}: {counts.read - counts.kept:,} of {counts.read:,} rows left out")
            for rows, what in (
                (counts.below, "rows below data.at_least left out"),
                (counts.few, "rows of users or items with too few rows left out"),
                (counts.without_attributes, "more in the interactions, without attributes"),
                (counts.without_title, "without a title, called by their id"),
            ):
                if rows:
                    self.progress(f"{table}: {rows:,} {what}")
        for problem in ledger.problems:
            self.progress(
                f"  {problem.rows:,} {problem.table}: {problem.column or 'fields'} must be {problem.expected}"
            )


def _locate_tables(config: OwnTables) -> tuple[dict[str, Located], dict[str, str]]:
    """Find the files of every table; and the part of each file of a split of files: train, validation or test.

    Raises
    ------
    DataError
        A file is not there, is in two parts, or is of another format than the others.
    """
    located = {table: locate(file, table) for table, file in config.tables.items() if file.path}
    part_of: dict[str, str] = {}
    if isinstance(config.split, GivenSplit) and config.split.files:
        located["interactions"] = _parts_as_one(config, config.split.files, part_of)
    return located, part_of


def _parts_as_one(config: OwnTables, files: Mapping[str, str], part_of: dict[str, str]) -> Located:
    located = [_located(config, part, path, part_of) for part, path in files.items()]
    first = located[0]
    for file, part in zip(located, files, strict=True):
        if file.format != first.format:
            raise DataError(
                f"data.split.{part} {file.config.path}: is {file.format}, the training rows are {first.format}; "
                "bring all parts in one format"
            )
    table = replace(config.interactions, path=", ".join(files.values()))
    root = "" if len({file.root for file in located}) > 1 else first.root
    return Located(first.table, table, first.filesystem, root, tuple(part_of), first.format)


def _check_name_of_split(located: Located, columns: Mapping[str, str]) -> None:
    """Raise DataError where the files have a column by the name of the one that says which part a row is in."""
    if Columns.Split in columns:
        raise DataError(
            f"data.interactions: {located.paths[0]} has a column {Columns.Split!r}, which is how the part "
            f"of each row is called; put {columns[Columns.Split]!r} into data.interactions.ignore"
        )


def _located(config: OwnTables, part: str, path: str, part_of: dict[str, str]) -> Located:
    try:
        located = locate(replace(config.interactions, path=path), "interactions")
    except DataError as error:
        raise DataError(str(error).replace("data.interactions.path", f"data.split.{part}")) from None
    for file in located.paths:
        if file in part_of:
            raise DataError(f"data.split: {PurePosixPath(file)} is in {part_of[file]} and in {part}; give each its own")
        part_of[file] = part
    return located
