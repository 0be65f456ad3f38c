"""From tables in memory to a finished run, in one call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrieval.api.frames import path_of
from retrieval.api.quiet import work
from retrieval.api.run import Run
from retrieval.init.options import columns_by_table
from retrieval.init.plan import Plan, lines_of, make_plan
from retrieval.init.trial import tried
from retrieval.options import CACHE, RUNS
from retrieval.recipes.naming import run_name
from retrieval.recipes.recipe import load_recipe
from retrieval.recipes.toml import rewrite
from workflows.errors import DataError, RecipeError
from workflows.files import atomic_write

if TYPE_CHECKING:
    from retrieval.runs.run import Teller

RECIPE: Final = "recipe.toml"
BEFORE: Final = "recipe.before.toml"


def fit(
    interactions: Any,
    users: Any = None,
    items: Any = None,
    *,
    test: Any = None,
    validation: Any = None,
    name: str = "fit",
    runs: str | Path = RUNS,
    columns: Mapping[str, str] | None = None,
    timestamp_unit: str | None = None,
    verbose: bool = True,
    **recipe: Any,
) -> Run:
    """Train, measure and release a model of who did something with what: `retrieval init` and `retrieval run` in one.

    Tables are written to the run's directory, and so is the recipe, `recipe.toml`, which says why it is as it is;
    `retrieval run runs/NAME/recipe.toml` goes on with it. The same call again keeps what is finished, and goes on
    where it was interrupted.

    Parameters
    ----------
    interactions
        A pandas, polars or pyarrow table (or the path of a file) with a row for each interaction: a user, an item and,
        if there are any, a time, a rating and a title. Which column is what is found by names and values.
    users, items
        Tables of what is known of them, if anything.
    test, validation
        Rows of a given split, as the interactions, which are then its training rows.
    name
        Of the run.
    runs
        Where runs are kept.
    columns
        Our name -> yours, where it is not found: `{"user_id": "visitor", "items.title": "label"}`.
    timestamp_unit
        How times are written, where it can be read in two ways: `"%d/%m/%Y"`, `"seconds"` ...
    verbose
        Whether progress is shown.
    **recipe
        Sections and keys of the recipe in place of the proposed ones: `train={"epochs": 5}, seed=1`; None leaves
        a key out.

    Returns
    -------
    Run
        With `evaluate()`, `recommend()`, `release()` and `serve()`.

    Raises
    ------
    DataError
        A table cannot be read or has no user or item, or times can be read in two ways; names table, column and remedy.
    RecipeError
        A key of the recipe is unknown or out of range, or the proposal would not run; names what is missing.
    """
    from retrieval.runs.run import Run as StoredRun
    from retrieval.runs.whole import run_all

    given_tables = {
        "interactions": interactions,
        "users": users,
        "items": items,
        "validation": validation,
        "test": test,
    }
    if run_name(name) != name:
        raise RecipeError(f"name {name!r}: expected letters, digits, '.', '_' and '-', such as {run_name(name)!r}")
    folder = Path(runs) / name
    with work(verbose) as teller:
        tables = {
            role: path_of(table, role, folder / "frames") for role, table in given_tables.items() if table is not None
        }
        parts = {part: tables.pop(part) for part in ("validation", "test") if part in tables}
        try:
            plan = make_plan(tables, columns_by_table(columns or {}), Path.cwd(), None, timestamp_unit, parts)
        except DataError as error:
            raise DataError(_in_python(str(error))) from None
        _write(plan, folder / RECIPE, recipe, teller)
        stored = StoredRun.create(load_recipe(folder / RECIPE), Path(runs))
        run_all(stored, CACHE, teller)
    return Run.open(stored.directory, verbose)


def _write(plan: Plan, recipe: Path, changes: Mapping[str, Any], teller: Teller) -> None:
    """Write what is proposed, with changes; raise RecipeError where it would not run. One edited by hand is kept."""
    trial = tried(plan, recipe.parent.name, recipe, teller.step)
    for line in [*lines_of(plan), *trial.said]:
        teller.say(_in_python(line))
    text = rewrite(trial.text, dict(_flat(changes)))
    if recipe.exists() and recipe.read_text(encoding="utf-8") != text:
        recipe.replace(recipe.with_name(BEFORE))
    atomic_write(recipe, text.encode())
    if trial.missing and "data" not in changes:
        raise RecipeError(f"{recipe}: {'; '.join(trial.missing)}")


def _in_python(text: str) -> str:
    """Return what is said of options of the command line as said of the arguments of `fit`."""
    text = re.sub(r"--column ([\w.]+)=([^\s:;,]+)", r'columns={"\1": "\2"}', text)
    return re.sub(r"--timestamp-unit ", "timestamp_unit=", text)


def _flat(changes: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path of keys of each value; a table that says what kind it is of is one value."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and not {"kind", "source"} & set(value):
            yield from _flat(value, *above, key)
        else:
            yield (*above, key), value
