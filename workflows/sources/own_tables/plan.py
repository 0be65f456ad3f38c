"""Which columns of the user's own tables become which of ours, and of what type."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final, Literal, NamedTuple

import pyarrow as pa

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.formats.chunks import TEXT
from workflows.sources.own_tables.formats.files import Chunk, Located
from workflows.sources.own_tables.types import Kind, guess, kind_of, needs_text

IDS: Final = {
    "interactions": (Columns.User, Columns.Item),
    "users": (Columns.User,),
    "items": (Columns.Item,),
}
Role = Literal["id", "title", "rating", "timestamp", "attribute"]


class Target(NamedTuple):
    """A column of ours."""

    name: str
    source: str
    """Its name in the files."""
    role: Role
    kind: Kind
    separator: str | None = None
    """Of text that holds a list."""


def named(located: Located, schema: pa.Schema) -> dict[str, str]:
    """Return our name -> the files' name of each column that is read.

    Raises
    ------
    DataError
        A column that the recipe names or that is required does not exist, or two columns get one name.
    """
    config, where = located.config, f"data.{located.table}"
    available = ", ".join(schema.names)
    for name in (*config.columns.values(), *config.ignore, *config.amounts):
        if name not in schema.names:
            raise DataError(f"{where}: {located.paths[0]} has no column {name!r}; there are: {available}")
    renamed = {raw: ours for ours, raw in config.columns.items()}
    columns: dict[str, str] = {}
    for raw in schema.names:
        ours = renamed.get(raw, raw)
        if raw in config.ignore:
            continue
        if ours in columns:
            raise DataError(
                f"{where}: both {columns[ours]!r} and {raw!r} would be called {ours!r}; "
                f"name one of them otherwise in {where}.columns, or put it into {where}.ignore"
            )
        columns[ours] = raw
    for name in IDS[located.table]:
        if name not in columns:
            raise DataError(
                f"{where}: {located.paths[0]} has no column {name!r}; there are: {available}; "
                f'say which it is: {where}.columns = {{ {name} = "..." }}'
            )
    _check_names(located, columns)
    return columns


def targets(
    located: Located, schema: pa.Schema, columns: Mapping[str, str], sample: list[Chunk], ids: Mapping[str, Kind]
) -> list[Target]:
    """Return what becomes of each column. `sample` is what types of text are guessed from, `ids` the ids' types."""
    planned = []
    for name, source in columns.items():
        role = _role(located.table, name)
        separator = located.config.lists.get(name) if source != located.config.explode else None
        kind = ids[name] if role == "id" else _kind(located, schema, name, source, role, sample)
        planned.append(Target(name, source, role, "list" if separator else kind, separator))
    return planned


def id_kind(located: Located, schema: pa.Schema, name: str, source: str, sample: list[Chunk]) -> Kind:
    """Return whether ids of a table are integers or strings.

    Raises
    ------
    DataError
        They are neither.
    """
    declared = located.config.types.get(name)
    dtype = schema.field(source).type
    kind = declared or (guess(_texts(source, sample), is_id=True) if located.format in TEXT else kind_of(dtype))
    kind = "integer" if kind == "float" else kind
    if not declared and any(needs_text(chunk.rows.column(source)) for chunk in sample):
        kind = "string"
    if kind not in ("integer", "string"):
        raise DataError(f"data.{located.table}: column {source!r} ({name}) holds {dtype}; ids are integers or strings")
    return kind


def check_thresholds(at_least: Mapping[str, float], targets: list[Target], table: str) -> None:
    """Raise DataError where `at_least` names a column of the interactions that is not there, or holds no numbers."""
    kinds: dict[str, str] = {target.name: str(target.kind) for target in targets} | {Columns.Rating: "float"}
    for name in at_least if table == "interactions" else ():
        if kinds.get(name) not in ("integer", "float"):
            numeric = ", ".join(name for name, kind in kinds.items() if kind in ("integer", "float"))
            problem = f"column {name!r} holds {kinds[name]}" if name in kinds else f"no column {name!r}"
            raise DataError(f"data.at_least: {problem}; of numbers there are: {numeric} (by our names)")


def _role(table: str, name: str) -> Role:
    if name in IDS[table]:
        return "id"
    if table == "interactions" and name in (Columns.Rating, Columns.Timestamp):
        return "rating" if name == Columns.Rating else "timestamp"
    return "title" if table == "items" and name == Columns.Title else "attribute"


def _kind(located: Located, schema: pa.Schema, name: str, source: str, role: Role, sample: list[Chunk]) -> Kind:
    if role in ("rating", "title", "timestamp"):
        return {"rating": "float", "title": "string", "timestamp": "integer"}[role]  # type: ignore[return-value]
    declared = located.config.types.get(name)
    if declared is not None:
        return declared
    if located.format in TEXT or source in located.config.amounts:
        return guess(_texts(source, sample))
    kind = kind_of(schema.field(source).type)
    if kind is None:
        raise DataError(
            f"data.{located.table}: column {source!r} holds {schema.field(source).type}, which tables cannot hold; "
            f"put it into data.{located.table}.ignore"
        )
    return kind


def _texts(source: str, sample: list[Chunk]) -> list[str | None]:
    return list(chain.from_iterable(chunk.rows.column(source).to_pylist() for chunk in sample))


def _check_names(located: Located, columns: Mapping[str, str]) -> None:
    """Refuse types and lists of columns that do not exist, or that say two things about one column."""
    config = located.config
    for option in ("types", "lists"):
        for name in getattr(config, option):
            if name not in columns:
                raise DataError(
                    f"data.{located.table}.{option}: no column {name!r}; there are: {', '.join(columns)} "
                    f"(by the names that data.{located.table}.columns gives them)"
                )
    both = set(config.types) & set(config.lists)
    if both:
        raise DataError(f"data.{located.table}: {min(both)!r} is in types and in lists; entries of lists are text")
