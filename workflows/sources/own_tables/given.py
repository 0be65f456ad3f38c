"""Where the files of the tables are: of interactions also the parts of a published split, each its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from msgspec.structs import replace

from workflows.columns import Columns
from workflows.config import GivenSplit, OwnTables
from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import Located, locate


def locate_tables(config: OwnTables) -> tuple[dict[str, Located], dict[str, str]]:
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


def check_name_of_split(located: Located, columns: Mapping[str, str]) -> None:
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
