"""`retrieval init`: a recipe for tables that nothing is known of yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from retrieval.console import Terminal, command
from retrieval.init.options import NO_OPTIONS, TABLES, TableOptions
from retrieval.recipes.naming import run_name
from workflows.errors import RecipeError

if TYPE_CHECKING:
    from retrieval.init.plan import Plan
    from retrieval.init.trial import Trial


@command
def init(
    console: Terminal,
    interactions: Annotated[
        str, typer.Option("--interactions", "--train", metavar="FILE", help="Who did something with what.")
    ],
    users: Annotated[str | None, typer.Option("--users", metavar="FILE", help="What is known of the users.")] = None,
    items: Annotated[str | None, typer.Option("--items", metavar="FILE", help="What is known of the items.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RECIPE", help="Where the recipe goes (default: NAME.toml).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the run (default: as the recipe's file).")] = None,
    reading: TableOptions = NO_OPTIONS,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
) -> None:
    """Read your tables, guess what their columns are, and write a commented recipe that runs as it is.

    A FILE is text (CSV, TSV and the like), JSON, Parquet, Arrow, or a database of SQLite or DuckDB; a directory of
    them, a pattern, or any address that fsspec knows. Exit code 2, the recipe written, where it would not run as it is.

    \b
    retrieval init --interactions clicks.parquet
    retrieval init --interactions orders.csv --users customers.csv --items products.csv --out recipes/shop.toml
    retrieval init --train train.txt --test test.txt
    retrieval init --interactions ratings.dat --delimiter :: --no-header --column user_id=column0
    """
    recipe = out or recipe_path(name or interactions)
    if recipe.exists() and not force:
        raise RecipeError(f"{recipe} is there already; choose another with --out, or write over it with --force")
    paths = {table: path for table, path in zip(TABLES, (interactions, users, items), strict=True) if path}
    plan, trial = written(console, paths, recipe, name, reading)
    result = {**plan_as_json(plan, recipe), "preview": trial.preview, "missing": trial.missing}
    console.result(result, *shown(plan, trial, recipe))
    if trial.missing:
        raise typer.Exit(RecipeError.exit_code)


def written(
    console: Terminal, tables: dict[str, str], recipe: Path, name: str | None, reading: TableOptions
) -> tuple[Plan, Trial]:
    """Write the recipe for the files of tables, and return what was decided and what came of it."""
    from retrieval.init.plan import make_plan
    from retrieval.init.trial import tried
    from workflows.files import atomic_write

    with console.working("reading the tables"):
        said = reading.columns(), Path.cwd(), reading.given(), reading.timestamp_unit
        plan = make_plan(tables, *said, reading.parts(), reading.split_column)
        trial = tried(plan, run_name(name or recipe.stem), recipe, console.step)
    atomic_write(recipe, trial.text.encode())
    return plan, trial


def shown(plan: Plan, trial: Trial, recipe: Path) -> Iterator[Table | str]:
    """Yield what was decided about every column, and the first rows as the recipe reads them."""
    yield from (_table(plan, table) for table in plan.tables)
    if trial.preview:
        yield _preview(trial.preview)
    yield f"split: {plan.split}: {plan.split_why}"
    yield from trial.said
    yield f"recipe: {recipe}"
    yield from (f"missing: {missing}" for missing in trial.missing)
    if not trial.missing:
        yield f"next: retrieval check {recipe}, then retrieval run {recipe}"


def _preview(rows: list[dict[str, Any]]) -> Table:
    shown = Table(*rows[0], title="the first interactions, as understood", title_justify="left")
    for row in rows:
        shown.add_row(*(str(value) for value in row.values()))
    return shown


def recipe_path(text: str) -> Path:
    """Return where the recipe of a run of that name, or of a file of interactions, goes."""
    return Path(f"{run_name(PurePosixPath(text).name.split('.')[0])}.toml")


def plan_as_json(plan: Plan, recipe: Path) -> dict[str, Any]:
    """Return what was decided, ready for JSON."""
    columns = [
        {
            "table": column.table,
            "column": column.column,
            "name": column.name,
            "becomes": column.becomes,
            "feature": {"kind": column.choice.kind, **column.choice.options}
            if column.choice and column.choice.kind
            else None,
            "why": column.why,
        }
        for column in plan.decided
    ]
    tables = {
        table: {"path": sampled.file.path, "rows": sampled.rows, "whole": sampled.whole, "notes": sampled.notes}
        for table, sampled in plan.tables.items()
    }
    return {"recipe": str(recipe), "tables": tables, "columns": columns, "split": plan.split, "why": plan.split_why}


def _near(path: str) -> str:
    """Return a path as seen from the working directory, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _table(plan: Plan, table: str) -> Table:
    sampled = plan.tables[table]
    read = f"{sampled.rows:,} rows" if sampled.whole else f"the first {sampled.rows:,} rows"
    notes = "".join(f"; {note}" for note in sampled.notes)
    title = f"{table}: {_near(sampled.file.path)}, {read}{notes}"
    shown = Table("column", "holds", "becomes", "why", title=title, title_justify="left")
    for decided in plan.of(table):
        kind = decided.choice.kind if decided.choice and decided.becomes == decided.name else None
        becomes = f"{decided.becomes} ({kind})" if kind else decided.becomes
        shown.add_row(decided.column, sampled.column(decided.column).dtype, becomes, decided.why)
    return shown
