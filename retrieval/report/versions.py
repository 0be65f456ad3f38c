"""What the commands about versions print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from rich.table import Column, Table
from rich.text import Text

from ensemble.deploy.compare import Changes, Difference
from ensemble.deploy.promote import Promoted
from ensemble.deploy.versions import Turn, Versions


def promoted_lines(done: Promoted) -> Iterator[str]:
    """Say what a promotion did."""
    turn = done.turn
    yield f"current: version {turn.version}, release {turn.release}"
    if done.difference is not None:
        answers, recall = done.difference.answers, turn.figures
        yield f"beside version {turn.before}: {answers.overlap:.1%} of the first {answers.k} answers in common" + (
            f", recall@{answers.k} {recall['recall']:.4f} after {recall['recall_before']:.4f}"
            if "recall" in recall
            else ""
        )
    for objection in turn.forced:
        yield f"forced: {objection}"
    if turn.server is not None:
        yield f"live at {turn.server}"
    if done.pruned:
        yield f"removed: version {', '.join(map(str, done.pruned))}"


def listed(versions: Versions) -> list[dict[str, Any]]:
    """Return the versions that are kept, newest first: `version`, `release`, `source`, `added`, `current`, `since`."""
    current, turns = versions.current(), versions.history()
    since = {turn.version: turn.when for turn in turns}
    return [
        {
            **msgspec.to_builtins(versions.about(number)),
            "current": current is not None and current.version == number,
            "since": since.get(number),
        }
        for number in reversed(versions.numbers())
    ]


def versions_table(versions: Sequence[Mapping[str, Any]]) -> Table:
    """One row per version; the current one is bold."""
    headings = ("version", "release", "from", "added", "last made current")
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for version in versions:
        cells = (
            str(version["version"]) + (" *" if version["current"] else ""),
            version["release"],
            version["source"],
            _moment(version["added"]),
            _moment(version["since"] or ""),
        )
        table.add_row(*(Text(cell, "bold" if version["current"] else "") for cell in cells))
    return table


def history_table(turns: Iterable[Turn]) -> Table:
    """One row per turn."""
    headings = ("when", "what", "version", "before", "who", "why")
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for turn in turns:
        why = "; ".join([*([turn.reason] if turn.reason else []), *(f"forced: {text}" for text in turn.forced)])
        before = "" if turn.before is None else str(turn.before)
        table.add_row(_moment(turn.when), turn.action, str(turn.version), before, Text(turn.who), Text(why))
    return table


def difference_tables(difference: Difference) -> Iterator[Table]:
    """Return what two releases are, what was measured of them, and what changed between them."""
    yield _facts_table(difference)
    if difference.metrics:
        yield _metrics_table(difference)
    yield _changes_table(difference)
    yield _answers_table(difference)


def _facts_table(difference: Difference) -> Table:
    table = Table("", f"A: {difference.a.source}", f"B: {difference.b.source}")
    for name in ("release", "name", "created", "users", "items", "interactions"):
        table.add_row(name, *(_cell(getattr(side, name)) for side in (difference.a, difference.b)))
    table.add_row("measured on", *(Text(side.protocol or "not known") for side in (difference.a, difference.b)))
    return table


def _metrics_table(difference: Difference) -> Table:
    same_rows = difference.a.protocol == difference.b.protocol
    table = Table("", "A", "B", "change", title="" if same_rows else "measured on different test rows")
    wanted = ("mrr", f"@{difference.answers.k}", "@100")
    for name, (old, new) in difference.metrics.items():
        if not name.endswith(wanted):
            continue
        change = f"{new / old - 1:+.1%}" if old else ""
        table.add_row(name, f"{old:.4f}", f"{new:.4f}", change)
    return table


def _changes_table(difference: Difference) -> Table:
    table = Table("", "added", "removed", "changed")
    table.add_row("items", *map(_cell, _counts(difference.catalogue)))
    table.add_row("users", *map(_cell, _counts(difference.users)[:2]))
    for name, count in difference.catalogue.columns.items():
        table.add_row(Text(f"  items' {name}"), "", "", _cell(count))
    return table


def _answers_table(difference: Difference) -> Table:
    answers = difference.answers
    table = Table(f"first {answers.k} answers of {answers.users:,} users", "")
    table.add_row("in common", f"{answers.overlap:.1%}")
    table.add_row("users who get the same items", f"{answers.same:.1%}")
    return table


def _counts(changes: Changes) -> tuple[int, int, int]:
    return changes.added, changes.removed, changes.changed


def _cell(value: Any) -> Text:
    return Text(f"{value:,}" if isinstance(value, int) else str(value))


def _moment(when: str) -> str:
    """Return a time without its zone, which is always UTC."""
    return when.removesuffix("+00:00").replace("T", " ")
