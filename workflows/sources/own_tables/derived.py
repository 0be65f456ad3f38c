"""Columns as a table's section asks for: several joined to one, numbers with a decimal comma, amounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import Located
from workflows.sources.own_tables.types import cast
from workflows.tables.config import TableFile

COMMA_NUMBER: Final = r"^\s*[+-]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d+)?\s*$"
_CURRENCY: Final = r"(\p{Sc}|USD|EUR|GBP|JPY|CNY|INR|CHF|CAD|AUD|BRL|US\$|R\$)"


def with_joined(located: Located, schema: pa.Schema, path: str) -> pa.Schema:
    """Return the columns of a file with those that are joined.

    Raises
    ------
    DataError
        One is not there, or is there already.
    """
    for name, sources in located.config.joined.items():
        where = f"data.{located.table}.joined"
        for source in sources:
            if source not in schema.names:
                raise DataError(f"{where}: {path} has no column {source!r}; there are: {', '.join(schema.names)}")
        if name in schema.names:
            raise DataError(f"{where}: {path} has a column {name!r} already; give the new one another name")
        schema = schema.append(pa.field(name, pa.string()))
    return schema


def sources_of(config: TableFile, names: Sequence[str]) -> list[str]:
    """Return the columns of the file that columns are made of, each once."""
    return list(dict.fromkeys(source for name in names for source in config.joined.get(name, (name,))))


def derived(config: TableFile, rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return columns of rows that were read: joined ones, and numbers with a decimal point."""
    for name in names:
        if name in config.joined:
            texts = [_text(rows.column(source)) for source in config.joined[name]]
            rows = rows.append_column(name, pc.binary_join_element_wise(*texts, " "))
    for name in config.amounts:
        if name in rows.column_names and pa.types.is_string(rows.column(name).type):
            at = rows.column_names.index(name)
            rows = rows.set_column(at, name, plain_amounts(rows.column(at), config.decimal))
    if config.decimal == ",":
        rule = _kept(config)
        for at, name in enumerate(rows.column_names):
            if name not in rule and pa.types.is_string(rows.schema.field(at).type):
                rows = rows.set_column(at, name, with_point(rows.column(at)))
    return rows


def _text(values: Any) -> Any:
    """Return values as text; of dates the day."""
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return pc.strftime(values, format="%Y-%m-%d")
    return cast(values, "string").values


def with_point(values: Any) -> Any:
    """Return texts in which 1.234,5 is 1234.5; others stay as they are."""
    plain = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    return pc.if_else(pc.match_substring_regex(values, COMMA_NUMBER), plain, values)


def is_amount(values: Any, decimal: str) -> bool:
    """Return whether all texts are amounts, and some have what no plain number has; 1,234 alone may be two ids."""
    marked = rf"\p{{Sc}}|%|[A-Z]\s?\d|\d\s?[A-Z]|\d{_thousands(decimal)}\d{{3}}{_escaped(decimal)}\d"
    return bool(
        pc.all(pc.match_substring_regex(values, _amount(decimal))).as_py()
        and pc.any(pc.match_substring_regex(values, marked)).as_py()
    )


def plain_amounts(values: Any, decimal: str) -> Any:
    """Return texts in which $1,234.50 is 1234.50 (with a decimal comma 1.234,50 €); others stay as they are."""
    bare = pc.replace_substring_regex(values, rf"{_CURRENCY}|[\s%{_thousands(decimal)}]", "")
    return pc.if_else(
        pc.match_substring_regex(values, _amount(decimal)), pc.replace_substring(bare, decimal, "."), values
    )


def _amount(decimal: str) -> str:
    number = rf"([1-9]\d{{0,2}}({_thousands(decimal)}\d{{3}})+|\d+)({_escaped(decimal)}\d+)?"
    return rf"^\s*[+-]?\s?{_CURRENCY}?\s?[+-]?{number}\s?({_CURRENCY}|%)?\s*$"


def _thousands(decimal: str) -> str:
    return r"\." if decimal == "," else ","


def _escaped(decimal: str) -> str:
    return r"\." if decimal == "." else ","


def _kept(config: TableFile) -> set[str]:
    """Return the columns, by the file's names, whose texts are no numbers."""
    strings = [name for name, kind in config.types.items() if kind == "string"]
    ours = [Columns.User, Columns.Item, *config.lists, *strings]
    return {config.columns.get(name, name) for name in ours} | ({config.explode} if config.explode else set())
