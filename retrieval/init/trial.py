"""The recipe that `retrieval init` writes, read and checked before it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from retrieval.init.plan import Plan
from retrieval.init.recipe import recipe_text
from retrieval.recipes.recipe import Recipe, parse_recipe
from workflows.checks.check import check
from workflows.checks.findings import Finding
from workflows.columns import Columns
from workflows.config import OwnTables
from workflows.sources.own_tables.plan import IDS
from workflows.sources.own_tables.rows import Ledger
from workflows.sources.own_tables.source import OwnRows, state

CHECKED_BYTES: Final = 1 << 30
"""Tables of more are not read as a whole before there is a recipe."""
MOST_LOST: Final = 0.3
"""Beyond this share of rows that do not fit, a table is of another form than was thought."""
PREVIEWED: Final = 5


class Trial(NamedTuple):
    """What came of a recipe."""

    text: str
    preview: list[dict[str, Any]]
    """The first interactions as the recipe reads them."""
    said: list[str]
    """What was left out, or not looked at."""
    missing: list[str]
    """Why the recipe would not run as it is."""


def tried(plan: Plan, name: str, recipe: Path, progress: Callable[[str], None]) -> Trial:
    """Return the recipe of a plan; where rows are bad it leaves them out and says how many. Raise DataError where a
    table cannot be read."""
    text = recipe_text(plan, name, recipe)
    parsed = parse_recipe(text, recipe)
    if _bytes(parsed) > CHECKED_BYTES:
        said = [f"looked at no more than {plan.tables['interactions'].rows:,} rows; retrieval check reads them all"]
        return Trial(text, preview(parsed), said, [])
    errors = _errors(parsed, recipe, progress)
    bad = [error for error in errors if error.check.startswith("bad-row/")]
    bad = [] if any(map(_is_other, bad)) else bad
    if bad:
        text = recipe_text(plan, name, recipe, bad)
        parsed = parse_recipe(text, recipe)
        errors = _errors(parsed, recipe, progress)
    said = [f"left out: {error.rows:,} of {error.of:,} rows of {error.table}: {error.message}" for error in bad]
    missing = [_missing(error, plan) for error in errors]
    return Trial(text, [] if missing else preview(parsed), said, missing)


def _is_other(error: Finding) -> bool:
    """Return whether so many rows repeat an id, or have another number of fields, that the table is meant otherwise."""
    return error.check in ("bad-row/duplicate", "bad-row/fields") and error.share > MOST_LOST


def _missing(error: Finding, plan: Plan) -> str:
    if not _is_other(error) or error.check == "bad-row/fields":
        named = error.column is None or repr(error.column) in error.message
        where = "" if named else f"{error.table}: column {error.column!r} "
        example = f", such as {error.examples[0]}" if error.examples and not named else ""
        return f"{where}{error.message}{example}; {error.remedy}"
    path, role = plan.tables[error.table].file.path, IDS[error.table][0]
    key = plan.roles[error.table][role].column.name
    distinct = f"COPY (SELECT DISTINCT ON ({key}) * FROM {path!r}) TO '{error.table}.parquet'"
    return (
        f"{path}: {error.rows:,} of {error.of:,} rows repeat a {role}, and one is expected for each; bring them into "
        f"one, with DuckDB such as: {distinct}, or PIVOT ... GROUP BY {key} where each row holds a property"
    )


def preview(recipe: Recipe) -> list[dict[str, Any]]:
    """Return the first good interactions by our names, times as times."""
    assert isinstance(recipe.data, OwnTables)
    rows = OwnRows(recipe.data, lambda _: None).good_rows(Ledger(refuse=False))
    first = next((frame.iloc[:PREVIEWED] for frame in rows if len(frame)), pd.DataFrame())
    shown: list[dict[Any, Any]] = first.astype(object).where(first.notna(), None).to_dict("records")
    for row in shown:
        row[Columns.Timestamp] = _moment(row[Columns.Timestamp], recipe.data.timestamp_unit)
    return shown


def _moment(seconds: int, unit: str) -> str:
    if not seconds or unit == "order":
        return f"place {seconds}" if seconds else "none"
    return f"{pd.Timestamp(seconds, unit='s'):%Y-%m-%d %H:%M:%S}"


def _bytes(recipe: Recipe) -> int:
    assert isinstance(recipe.data, OwnTables)
    return sum(size or 0 for files in state(recipe.data).values() for _, size, _ in files)


def _errors(recipe: Recipe, path: Path, progress: Callable[[str], None]) -> list[Finding]:
    checked = check(recipe.data, recipe.query, recipe.item, path.parent, progress)
    return [finding for finding in checked.findings if finding.severity == "error"]
