"""The plan of `retrieval init` as a commented recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.init.columns.profile import Profile, Sampled, numbers
from retrieval.init.columns.words import parts_of
from retrieval.init.plan import Decided, Plan
from retrieval.init.training import HISTORY, settings, towers
from retrieval.recipes.toml import inline, key_of
from workflows.checks.findings import Finding
from workflows.columns import Columns
from workflows.tables.config import TableFile

COMMENT = 58
"""Column in which comments begin, where lines leave room."""
READING = (
    "format", "table", "joined", "explode", "explode_only", "delimiter", "header", "names", "skip_lines", "quote",
    "escape", "decimal", "amounts", "encoding",
)  # fmt: skip
"""How a file is read: written where it is not the usual."""
QUANTITIES: Final = {"quantity", "qty", "amount", "count", "units", "plays", "weight", "total"}
LIKED: Final = 0.7
"""Share of the scale from which a rating is taken for liking."""


def recipe_text(plan: Plan, name: str, recipe: Path, bad: Sequence[Finding] = ()) -> str:
    """Return the recipe; paths in it are relative to `recipe`, the file that it will be. `bad`: rows to be left out."""
    return (
        "\n".join([*_head(plan, name, recipe), *_data(plan, recipe.parent, bad), *_features(plan), *_rest(plan)]) + "\n"
    )


def _head(plan: Plan, name: str, recipe: Path) -> list[str]:
    sources = ", ".join(f"{table} ({_rows(sampled)})" for table, sampled in plan.tables.items())
    return [
        f"# Written by `retrieval init`, which looked at {sources}.",
        "# Everything here is a guess with its reason beside it: look it through, then",
        f"#   retrieval check {recipe.name}",
        f"#   retrieval run {recipe.name}",
        f"name = {inline(name)}",
        "seed = 42",
        _line('device = "auto"', "auto | gpu | cpu"),
        "",
    ]


def _data(plan: Plan, directory: Path, bad: Sequence[Finding]) -> list[str]:
    lines = ["[data]", 'source = "tables"']
    time = plan.timestamp
    if time is not None:
        lines.append(_line(f"timestamp_unit = {inline(time.unit)}", f"{time.column.name}: {time.why}"))
    if bad:
        lines += [f"# {finding.rows:,} of {finding.of:,} rows of {finding.table}: {finding.message}" for finding in bad]
        lines.append(
            _line('bad_rows = "drop"', 'left out and reported in tables/source.json; "refuse": stop at the first')
        )
    else:
        lines.append(_line('bad_rows = "refuse"', '"drop": leave bad rows out and report them in tables/source.json'))
    lines += [f"# {line}" for line in _meanings(plan)]
    parts = {part: _relative(path, directory) for part, path in plan.parts.items()}
    split = inline({"kind": "given", **parts}) if parts else plan.split
    lines += [f"# {plan.split_why}", f"split = {split}"]
    for table, sampled in plan.tables.items():
        lines += _table(plan, table, sampled, directory)
    return lines


def _meanings(plan: Plan) -> Iterator[str]:
    """Yield comments: what a column of the interactions says of its rows, and what would act upon it."""
    rating = plan.roles["interactions"].get(Columns.Rating)
    if rating is not None:
        yield from _of_rating(rating.column)
    for column in plan.tables["interactions"].columns:
        if column.dtype in ("integer", "float") and QUANTITIES & set(parts_of(column.name)):
            yield from _of_quantity(column)


def _of_rating(column: Profile) -> Iterator[str]:
    values = numbers(column).dropna().astype("float64")
    low, high = float(values.min()), float(values.max())
    yield f"{column.name}: every row counts as liked, {low:g} as {high:g}; see [train.objective.rating] for other ways"
    for none in (-1.0, 0.0):
        if low <= none < high and (share := float((values == none).mean())):
            least = float(values[values > none].min())
            yield f"{share:.1%} of the ratings are {none:g}: no rating? to leave them out:"
            yield f"at_least = {inline({Columns.Rating: least})}"
            return
    liked = float(np.ceil(low + LIKED * (high - low)))
    if high - low >= 2 and (share := float((values < liked).mean())) > 0.01:
        lowest = float((values == low).mean())
        yield f"{share:.1%} are below {liked:g}, {lowest:.1%} are {low:g}; to learn from the others alone:"
        yield f"at_least = {inline({Columns.Rating: liked})}"


def _of_quantity(column: Profile) -> Iterator[str]:
    values = column.values.astype("float64")
    share = float((values < 0).mean())
    if share:
        least = float(values[values > 0].min()) if (values > 0).any() else 0.0
        yield f"{column.name}: {share:.1%} are negative: returns? to leave them out:"
        yield f"at_least = {inline({column.name: least})}"


def _table(plan: Plan, table: str, sampled: Sampled, directory: Path) -> list[str]:
    decided, file = plan.of(table), sampled.file
    renamed = {decision.name: decision.column for decision in decided if decision.name != decision.column}
    lines = ["", f"[data.{table}]"]
    if table != "interactions" or not plan.parts:
        lines.append(f"path = {inline(_relative(file.path, directory))}")
    lines += [f"# {note}" for note in sampled.notes]
    for option, value in _options(plan, table, file).items():
        if value not in (None, []):
            text = f"{option} = {inline(value)}"
            lines.append(_line(text, "stand for null, in every column") if option == "nulls" else text)
    if renamed:
        lines.append("# our name = the file's name")
        lines.append(f"columns = {inline(renamed)}")
    read = decided if table != "interactions" else []
    lists = {
        decision.name: decision.choice.separator for decision in read if decision.choice and decision.choice.separator
    }
    if lists := {**file.lists, **lists}:
        lines.append(_line(f"lists = {inline(lists)}", "text that holds several values"))
    types = {decision.name: decision.choice.type for decision in read if decision.choice and decision.choice.type}
    if types:
        lines.append(_line(f"types = {inline(types)}", "text that holds dates"))
    return lines


def _options(plan: Plan, table: str, file: TableFile) -> dict[str, object]:
    words = {word for column in plan.tables[table].columns for word in column.null_words}
    usual = TableFile(path=file.path)
    how = {name: getattr(file, name) for name in READING if getattr(file, name) != getattr(usual, name)}
    return {**how, "nulls": ["", *sorted(words)] if words else None, "ignore": [*file.ignore, *plan.ignored[table]]}


def _features(plan: Plan) -> list[str]:
    query = [*_only(plan, "interactions", Columns.User), *_others(plan, "users")]
    title = _only(plan, "interactions", Columns.Title)
    item = [*_only(plan, "interactions", Columns.Item), *title, *_others(plan, "items")]
    lines = ["", "[query.features]", *map(_feature, query)]
    if plan.timestamp is not None:
        lines.append(
            _line(f'history = {{ kind = "sequence", last = {HISTORY} }}', "what the user did up to the query's time")
        )
    left_out = [decision for decision in plan.of("interactions") if decision.choice and decision.becomes == "left out"]
    if any(decision.choice and decision.choice.kind for decision in left_out):
        lines.append("# Columns of the interactions: take in those that are known when the question is asked.")
    lines += [f"# {_feature(decision)}" for decision in left_out if decision.choice and decision.choice.kind]
    return [*lines, "", "[item.features]", *map(_feature, item)]


def _only(plan: Plan, table: str, name: str) -> Iterable[Decided]:
    return [decision for decision in plan.of(table) if decision.name == name]


def _others(plan: Plan, table: str) -> Iterable[Decided]:
    return [decision for decision in plan.of(table) if decision.name not in (Columns.User, Columns.Item)]


def _feature(decided: Decided) -> str:
    if decided.choice is None or decided.choice.kind is None:
        return f"# {key_of(decided.name)}: left out: {decided.why}"
    return _line(f"{key_of(decided.name)} = {decided.choice.toml()}", decided.choice.why)


def _rest(plan: Plan) -> list[str]:
    model = [_line(text, why) for text, why in towers(plan.roles)]
    lines = ["", "[model]", *model] if model else []
    lines += ["", "[train]", *(_line(text, why) for text, why in settings(plan.tables["interactions"], plan.roles))]
    event = plan.roles["interactions"].get(Columns.Event)
    if event is None:
        return lines
    counts = event.column.values.value_counts()
    kinds = [str(kind) for kind in counts.index]
    served = f"served = {inline(kinds[-1])}"
    return [
        *lines,
        "# Several kinds of events: as it is, every row counts alike. To serve one kind and learn from all:",
        _line("# [train.tasks.events]", f"the rarest is {counts.iloc[-1] / counts.sum():.1%} of the rows"),
        f"# kinds = {inline(kinds)}",
        f"# {served}",
    ]


def _line(text: str, comment: str) -> str:
    return f"{text.ljust(COMMENT - 1)} # {comment}"


def _relative(path: str, directory: Path) -> str:
    return path if "://" in path else Path(os.path.relpath(path, directory.absolute())).as_posix()


def _rows(sampled: Sampled) -> str:
    return f"{sampled.rows:,} rows" if sampled.whole else f"the first {sampled.rows:,} rows"
