"""`retrieval plan`: what a recipe will cost, before it is run; what a run cost, beside what was foretold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from retrieval.console import Terminal, command
from retrieval.options import CACHE, RUNS, Cache, Runs
from workflows.errors import RecipeError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@command
def plan(
    out: Terminal,
    source: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe, or a run's directory.")],
    runs: Runs = RUNS,
    memory: Annotated[str | None, typer.Option("--memory", help="What there is, such as 8GB or 512MiB.")] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=10, help="Interactions, with --users and --items.")] = None,
    users: Annotated[int | None, typer.Option("--users", min=1, help="How many users.")] = None,
    items: Annotated[int | None, typer.Option("--items", min=1, help="How many items.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train some real steps, half a minute or more.")] = False,
    cache: Cache = CACHE,
) -> None:
    """Say what a recipe takes before it is run: parameters, memory, disk, index, seconds per epoch.

    At once, from the sizes; with --measure a rehearsal of the train stage measures what cannot be counted: on the run's
    features if there are any, else on made-up rows. With --memory: what to change so that it fits. With a RUN:
    predicted, and measured.

    \b
    retrieval plan recipes/movielens-100k.toml
    retrieval plan recipes/synthetic.toml --rows 20000000 --users 1000000 --items 100000 --memory 8GB
    retrieval plan runs/movielens-100k --json
    """
    budget = None if memory is None else parse_size(memory)
    declared = _sizes(rows, users, items)
    if not source.is_dir() and declared is None:
        fetch_own_tables(out, source, runs, cache)
    with out.working("rehearsing the train stage" if measure else "counting"):
        planned = _planned(source, runs, declared, budget, measure)
    out.result(planned, *shown(planned))


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 8GB, 512MiB or 1000000; raise RecipeError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not match:
        raise RecipeError(f"--memory {text}: expected a size such as 8GB or 512MiB")
    return int(float(match.group(1)) * _UNITS[match.group(2) or ""])


def _sizes(rows: int | None, users: int | None, items: int | None) -> Any:
    from retrieval.plan.shapes import Sizes

    declared = rows, users, items
    if all(count is None for count in declared):
        return None
    if rows is None or users is None or items is None:
        raise RecipeError("--rows, --users and --items go together")
    return Sizes(rows, users, items)


def fetch_own_tables(out: Terminal, source: Path, runs: Path, cache: Path) -> None:
    """Store the user's own tables, which a run then need not do: how large they are is known when they are read."""
    from retrieval.recipes.recipe import load_recipe
    from retrieval.runs.run import Run, advance
    from workflows.config import OwnTables

    recipe = load_recipe(source)
    if isinstance(recipe.data, OwnTables):
        advance(Run.create(recipe, runs), ["fetch"], cache, out)


def _planned(source: Path, runs: Path, sizes: Any, budget: int | None, measure: bool) -> dict[str, Any]:
    from retrieval.plan.cost import compared, estimated, measured_of, product_seconds, rehearse, serving_base
    from retrieval.plan.cost import plan as foretell
    from retrieval.plan.shapes import shapes_of
    from retrieval.recipes.recipe import load_recipe
    from retrieval.runs.run import Run

    is_run = source.is_dir()
    run = Run.open(source) if is_run else Run.create(load_recipe(source), runs)
    shapes = shapes_of(run.recipe, run.directory, sizes)
    features = run.features if shapes.origin == "features" else None
    measured = rehearse(run.recipe, shapes, features) if measure else estimated(run.recipe, shapes, product_seconds())
    planned = foretell(run.recipe, shapes, measured, serving_base(), budget)
    return {**planned, "compared": compared(planned, measured_of(source)) if is_run else None}


def shown(planned: Mapping[str, Any]) -> Iterator[Table | str]:
    """Yield a plan as tables and lines."""
    data = planned["data"]
    counts = ", ".join(f"{count:,} {name}" for name, count in data["rows"].items())
    yield f"{planned['recipe']}: rows {counts}; {data['users']:,} users, {data['items']:,} items"
    yield f"known from: {data['from']}" + (f"; assumed: {', '.join(data['assumed'])}" if data["assumed"] else "")
    yield _parameters_table(planned["parameters"])
    stage = planned["training"]
    how = "measured" if stage["measured"] else "estimated"
    lines = {f"base: Python, TensorFlow, Merlin, graphs ({how})": stage["base"], **stage["stays"]}
    lines.update({f"{name} (passes)": size for name, size in stage["passes"].items()})
    yield _sizes_table("training, host memory", {**lines, "peak": stage["peak"]}, "peak")
    yield _sizes_table("training, on a GPU (not measured)", stage["gpu"])
    yield _sizes_table("serving", planned["serving"])
    yield _sizes_table("disk, before compression", planned["disk"])
    yield f"index: {planned['index']['kind']}, {size_text(planned['index']['bytes'])} beside the item vectors"
    seconds = stage["seconds_per_epoch"]
    timed = "not timed: it does not fit here" if seconds is None else f"{seconds:.1f} s ({how})"
    most = stage["epochs_at_most"]
    total = "" if seconds is None else f", {duration_text(most * seconds)} of training"
    yield f"an epoch: {stage['steps_per_epoch']:,} steps, {timed}; at most {most} epochs{total}"
    if stage["blend_fits"]:
        yield f"the blend: {stage['blend_fits']} fits of simple models at most, and again of those chosen"
    searched = duration_text(stage["peers_seconds_at_most"])
    yield f"simple models to compare with: settings are searched for at most {searched} in all"
    if planned["budget"] is not None:
        yield from _budget_shown(planned["budget"])
    if planned.get("compared"):
        yield compared_table(planned["compared"])


def compared_table(rows: list[dict[str, Any]]) -> Table:
    """Predicted against measured."""
    columns = (Column(name, justify="right") for name in ("predicted", "measured", "predicted / measured"))
    table = Table("", *columns, title="predicted against measured", title_justify="left")
    for row in rows:
        texts = [_figure(row["what"], row[name]) for name in ("predicted", "measured")]
        table.add_row(row["what"], *texts, "" if row["ratio"] is None else f"{row['ratio']:.2f}")
    return table


def size_text(size: float) -> str:
    """Return bytes as people read them: 1.2 GB, 34 MB, 5 kB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.{1 if size < 10 * factor else 0}f} {unit}"
    return f"{size:.0f} B"


def duration_text(seconds: float) -> str:
    """Return a time as people read it: 1.5 hours, 12 minutes, 40 seconds."""
    for unit, factor in (("hours", 3600), ("minutes", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.{1 if seconds < 10 * factor else 0}f} {unit}"
    return f"{seconds:.0f} seconds"


def _figure(what: str, value: float | None) -> str:
    if value is None:
        return ""
    if what == "parameters":
        return f"{value:,.0f}"
    return f"{value:.2f} s" if what.startswith("seconds") else size_text(value)


def _parameters_table(counts: Mapping[str, Any]) -> Table:
    columns = "tower", "table", Column("numbers", justify="right"), Column("size", justify="right")
    table = Table(*columns, title=f"{counts['total']:,} parameters", title_justify="left")
    for side in ("query", "item"):
        for name, number in counts[side].items():
            table.add_row(side, name, f"{number:,}", size_text(4 * number))
    return table


def _sizes_table(title: str, sizes: Mapping[str, int], last: str = "total") -> Table:
    """Return sizes as a table, with that of the name `last` at its end."""
    table = Table("what", Column("size", justify="right"), title=title, title_justify="left", show_header=False)
    for name in (name for name in sizes if name != last):
        table.add_row(name, size_text(sizes[name]))
    table.add_section()
    table.add_row(last, size_text(sizes[last]))
    return table


def _budget_shown(advice: Mapping[str, Any]) -> Iterator[Table | str]:
    budget, peak = size_text(advice["budget"]), size_text(advice["peak"])
    if advice["fits"]:
        yield f"fits into {budget}: the train stage takes {peak}"
        return
    title = f"the train stage takes {peak}, more than {budget}; each alone:"
    table = Table("change", "saves", "price", title=title, title_justify="left")
    for lever in advice["levers"]:
        table.add_row(lever["change"], size_text(lever["saves"]), lever["price"])
    yield table
    after = size_text(advice["peak_together"])
    enough = "fits with" if advice["peak_together"] <= advice["budget"] else "not enough even with"
    yield f"{enough} ({after}): {'; '.join(advice['together'])}"
