"""`retrieval check`: what is wrong or suspicious in a recipe's data, before hours are spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from retrieval.console import Terminal, command
from retrieval.options import CACHE, Cache
from workflows.checks.findings import SEVERITIES, Checked, Finding
from workflows.errors import RetrievalError

if TYPE_CHECKING:
    from retrieval.recipes.recipe import Recipe

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


@command
def check(
    console: Terminal,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/tables.toml.")],
    cache: Cache = CACHE,
) -> None:
    """Read a recipe's data and report what is wrong or suspicious, with counts and example rows.

    Exit code 2 where an error was found: a run would fail, or measure nothing. Warnings and notes leave it 0.

    \b
    retrieval check recipes/tables.toml
    retrieval check recipes/movielens-100k.toml --json
    """
    from msgspec import to_builtins

    from retrieval.recipes.recipe import load_recipe

    checked = checked_of(load_recipe(recipe), cache, console)
    counts = {f"{severity}s": checked.count(severity) for severity in SEVERITIES}
    console.result({"recipe": str(recipe), **counts, **to_builtins(checked)}, *shown(checked))
    if checked.count("error"):
        raise typer.Exit(RetrievalError.exit_code)


def checked_of(recipe: Recipe, cache: Path, console: Terminal) -> Checked:
    """Check the data of a recipe, saying so."""
    from workflows.checks.check import check as check_data

    tasks = recipe.train.tasks
    kinds = tasks.events.kinds if tasks and tasks.events else ()
    with console.working("check"):
        return check_data(recipe.data, recipe.query, recipe.item, cache.expanduser(), console.step, kinds)


def shown(checked: Checked) -> list[Table | str]:
    """Return what was found, and how much there is."""
    return [*([findings_table(checked)] if checked.findings else []), _summary(checked)]


def findings_table(checked: Checked) -> Table:
    """Return what was found, the worst first."""
    table = Table("", "where", Column("rows", justify="right"), "what, and what to do", show_lines=True)
    for finding in checked.findings:
        what = Text(f"{finding.message}\n")
        what.append("".join(f"  {_example(example)}\n" for example in finding.examples), style="dim")
        what.append(f"→ {finding.remedy}", style="italic")
        where = f"{finding.table}\n{finding.column}" if finding.column else finding.table
        table.add_row(
            Text(finding.severity, style=STYLES[finding.severity]), f"{where}\n[{finding.check}]", _rows(finding), what
        )
    return table


def _rows(finding: Finding) -> str:
    if not finding.of:
        return ""
    share = finding.share
    shown = "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"
    return f"{finding.rows:,}\n{shown}"


def _example(example: dict[str, Any]) -> str:
    values = example.get("values")
    place = f"{Path(example['file']).name} " if "file" in example else ""
    if values:
        inside = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return f"{place}row {example['row']}: {inside}"
    if "line" in example:
        return f"{place}line {example['line']}: {example['value']!r}"
    return ", ".join(f"{name} {value}" for name, value in example.items() if name != "file")


def _summary(checked: Checked) -> str:
    facts = checked.facts
    counts = {severity: checked.count(severity) for severity in SEVERITIES}
    listed = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())
    if "interactions" not in facts:
        return listed
    counted = f"{facts['interactions']:,} interactions of {facts['users']:,} users with {facts['items']:,} items"
    cold = facts.get("cold")
    test = (
        f"; test: {facts['test']:,} rows, {cold['users']:.1%} of new users, {cold['items']:.1%} of new items"
        if cold
        else ""
    )
    return f"{counted}{test}\n{listed}"
