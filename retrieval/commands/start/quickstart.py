"""`retrieval quickstart`: from files to a measured release, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.init.options import NO_OPTIONS, TableOptions
from retrieval.options import CACHE, RUNS, Cache, Mlflow, Peers, Runs
from workflows.errors import RecipeError, RetrievalError

if TYPE_CHECKING:
    from retrieval.recipes.recipe import Recipe


@command
def quickstart(
    out: Terminal,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Interactions; users and items, if any.")],
    recipe: Annotated[
        Path | None, typer.Option("--out", metavar="RECIPE", help="Where the recipe goes (default: NAME.toml).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the run (default: as the recipe's file).")] = None,
    reading: TableOptions = NO_OPTIONS,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    peers: Peers = None,
    mlflow: Mlflow = None,
) -> None:
    """Do what init, check and run do: write a recipe for your files, check the data, train, compare, and report.

    Of several FILEs the one that names both users and items is the interactions. It ends with a verdict and with the
    commands that go on. The same command again goes on where it stopped, with the recipe as it is by then.

    \b
    retrieval quickstart clicks.parquet
    retrieval quickstart orders.csv customers.csv products.csv --name shop
    retrieval quickstart ratings.dat --column user_id=column0 --peers knn --json
    """
    from retrieval.commands.start import check
    from retrieval.commands.start.run import as_json, shown
    from retrieval.recipes.recipe import with_peers
    from retrieval.runs.mlflow_log import Log
    from retrieval.runs.run import Run
    from retrieval.runs.whole import run_all

    log = Log(mlflow) if mlflow else None
    path, loaded = _recipe(out, files, recipe, name, reading, force)
    try:
        checked = check.checked_of(loaded, cache, out)
        out.show(*check.shown(checked))
        if checked.count("error"):
            first = next(finding for finding in checked.findings if finding.severity == "error")
            raise RecipeError(f"{first.table}: {first.message}; {first.remedy}")
        run = Run.create(with_peers(loaded, peers), runs)
        finished = run_all(run, cache, out, log=log)
    except RetrievalError as error:
        raise type(error)(f"{error}; then `retrieval run {path}` goes on") from None
    after = _next(run, path)
    result = {"recipe": str(path), "check": checked, "run": str(run.directory), **as_json(finished), "next": after}
    out.result(result, *shown(finished), *(f"next: {line}" for line in after))


def _recipe(
    out: Terminal,
    files: list[str],
    out_path: Path | None,
    name: str | None,
    reading: TableOptions,
    force: bool,
) -> tuple[Path, Recipe]:
    """Return the recipe for files, and where it is: the one that is there, or the one that `init` writes."""
    from retrieval.commands.start import init
    from retrieval.init.sides import assigned
    from retrieval.recipes.recipe import load_recipe

    if len(files) > 3:
        raise RecipeError(f"{len(files)} files; expected interactions, and users and items if there are any")
    tables = assigned(files, reading.given())
    path = out_path or init.recipe_path(name or tables["interactions"])
    if path.exists() and not force:
        loaded = load_recipe(path)
        _check_same(path, loaded, tables)
        out.say(f"{path} is there already, and is kept")
        return path, loaded
    plan, trial = init.written(out, tables, path, name, reading)
    out.show(*init.shown(plan, trial, path))
    if trial.missing:
        raise RecipeError(f"{path}: {trial.missing[0]}; correct the recipe, then `retrieval run {path}` goes on")
    return path, load_recipe(path)


def _check_same(path: Path, recipe: Recipe, tables: dict[str, str]) -> None:
    """Refuse a recipe that is there for other files."""
    for table, file in tables.items():
        split = getattr(recipe.data, "split", None)
        stated = getattr(getattr(recipe.data, table, None), "path", None) or getattr(split, "train", None)
        expected = file if "://" in file else str(Path(file).expanduser().absolute().resolve())
        if stated != expected:
            raise RecipeError(
                f"{path} is there already, for other {table} ({stated or 'none'}); choose another with --out, or write "
                "over it with --force"
            )


def _next(run: Any, recipe: Path) -> list[str]:
    """Return the commands that go on from a finished run."""
    from retrieval.report.examples import any_user

    place = run.directory
    return [
        f"retrieval explore {place}",
        f"retrieval serve {place}",
        f"retrieval query --user {any_user(place)} --top-k 5 --run {place}",
        f"retrieval recommend {place} --users all --out answers",
        f"retrieval run {recipe}, after the recipe or the files have changed",
    ]
