"""What the user says of tables that are to be read; what is not said is found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from workflows.errors import RecipeError

if TYPE_CHECKING:
    from retrieval.init.columns.profile import Given

FORMATS: Final = ("csv", "json", "parquet", "arrow", "sqlite", "duckdb", "adjacency", "netflix")
TABLES: Final = ("interactions", "users", "items")


@dataclass(frozen=True)
class TableOptions:
    """The options of `init` and `quickstart` that say how tables are to be read."""

    column: Annotated[
        list[str] | None, typer.Option("--column", help="OURS=THEIRS, such as user_id=uid or items.title=label.")
    ] = None
    form: Annotated[
        list[str] | None, typer.Option("--format", help=f"Of the files, or of one: items=json. {', '.join(FORMATS)}.")
    ] = None
    delimiter: Annotated[
        list[str] | None, typer.Option("--delimiter", help="Between the fields of text: '::', or items='|'.")
    ] = None
    encoding: Annotated[
        list[str] | None, typer.Option("--encoding", help="Of text that is not UTF-8: cp1251, or items=gbk.")
    ] = None
    no_header: Annotated[bool, typer.Option("--no-header", help="The text files begin with a row.")] = False
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Of a database: interactions=orders, items=products.")
    ] = None
    timestamp_unit: Annotated[
        str | None, typer.Option("--timestamp-unit", help="How times are written: '%d/%m/%Y', iso, seconds ...")
    ] = None
    test: Annotated[
        str | None, typer.Option("--test", metavar="FILE", help="Test rows of a given split; the interactions train.")
    ] = None
    validation: Annotated[
        str | None, typer.Option("--validation", metavar="FILE", help="Its validation rows; else some that train.")
    ] = None
    split_column: Annotated[
        str | None, typer.Option("--split-column", help="The column that says train, validation or test of each row.")
    ] = None
    sample: Annotated[int, typer.Option("--sample", min=1, help="Rows of each table that are looked at.")] = 500_000

    def given(self) -> dict[str, Given]:
        """Return how each table is to be read; raise RecipeError where there is no such format."""
        from retrieval.init.columns.profile import Given

        options = (self.form, self.delimiter, self.table, self.encoding)
        formats, delimiters, tables, encodings = map(_by_table, options)
        if unknown := set(formats.values()) - set(FORMATS):
            raise RecipeError(f"--format {min(unknown)}: expected one of {', '.join(FORMATS)}")
        header = False if self.no_header else None
        return {
            table: Given(
                formats.get(table),  # type: ignore[arg-type]
                tables.get(table),
                delimiters.get(table),
                header,
                self.sample,
                encodings.get(table),
            )
            for table in TABLES
        }

    def parts(self) -> dict[str, str]:
        """Return the files of a given split; raise RecipeError for a part of one."""
        if self.validation and not self.test:
            raise RecipeError(f"--validation {self.validation}: goes with --test, the test rows")
        if self.test and self.split_column:
            raise RecipeError("--test and --split-column are two ways to say the split; give one of the two")
        return {part: path for part, path in (("validation", self.validation), ("test", self.test)) if path}

    def columns(self) -> dict[str, dict[str, str]]:
        """Return for each table our name -> the file's name; raise RecipeError for what is neither."""
        pairs = []
        for option in self.column or []:
            ours, equals, theirs = option.partition("=")
            if not equals:
                raise RecipeError(_not_a_column(option))
            pairs.append((ours, theirs))
        return columns_by_table(dict(pairs))


NO_OPTIONS: Final = TableOptions()


def columns_by_table(columns: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return for each table our name -> the file's name; `columns` has `items.title` for what is not the interactions'.
    Raise RecipeError where there is no such table."""
    by_table: dict[str, dict[str, str]] = {}
    for ours, theirs in columns.items():
        table, dot, name = ours.rpartition(".")
        table = table if dot else "interactions"
        if not name or table not in TABLES:
            raise RecipeError(_not_a_column(f"{ours}={theirs}"))
        by_table.setdefault(table, {})[name] = theirs
    return by_table


def _not_a_column(text: str) -> str:
    return f"--column {text}: expected OURS=THEIRS, such as user_id=uid or items.item_id=sku"


def _by_table(options: list[str] | None) -> dict[str, str]:
    """Read options that are for one table, `items=VALUE`, or for all of them, `VALUE`."""
    values: dict[str, str] = {}
    for option in options or []:
        table, equals, value = option.partition("=")
        values |= {table: value} if equals and table in TABLES else dict.fromkeys(TABLES, option)
    return values
