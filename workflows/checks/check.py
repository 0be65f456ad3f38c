"""What is wrong or suspicious in a recipe's data, found before anything is trained on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from workflows import sources
from workflows.checks.columns import column_findings, event_findings, number_findings, used_columns
from workflows.checks.findings import SEVERITIES, Checked, Finding, Severity
from workflows.checks.rows import Events, row_findings
from workflows.columns import Columns
from workflows.config import Data, FeatureSide, OwnTables
from workflows.errors import DataError, RecipeError
from workflows.features.canonical import describe
from workflows.features.plan import history_of, plan
from workflows.progress import Progress
from workflows.sources.own_tables.rows import Counts, Ledger, Problem
from workflows.tables.config import BadRows
from workflows.tables.store import Stored, open_tables, read_part, write_tables
from workflows.tables.undated import is_dated, needing_time

MANY = 0.5
"""Of the users or items that are in the interactions alone: beyond this share a warning."""
SAMPLED_ROWS = 50_000
"""Interactions on which the kinds of features are tried."""


def check(
    data: Data, query: FeatureSide, item: FeatureSide, cache: Path, progress: Progress, kinds: Iterable[str] = ()
) -> Checked:
    """Read the source and return what is wrong with it, the worst first.

    Users and items are held in memory, interactions as 16 bytes per row. Columns that the features read get warnings,
    others only notes. `kinds` are the kinds of events that the recipe tells apart, if it does.

    Raises
    ------
    DownloadError
        The source could not be reached.
    """
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="retrieval-check.") as scratch:
        directory = Path(scratch) / "tables"
        try:
            facts = _store(data, cache, directory, progress, findings)
            stored = open_tables(directory)
        except DataError as error:
            findings.append(Finding.of_error("source", "data", error, "correct it, then check again"))
            return Checked(facts={}, findings=findings)
        facts.update(users=len(stored.users), items=len(stored.items), interactions=sum(stored.rows))
        progress("looking at columns")
        findings += _recipe_findings(stored, data, query, item)
        findings += event_findings(stored, [*kinds])
        findings += column_findings(stored, used_columns(query, item))
        findings += number_findings(stored, query, item)
        progress("looking at rows")
        findings += row_findings(Events.of(stored), data.split, facts)
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), -finding.rows))
    return Checked(facts=facts, findings=findings)


def _store(data: Data, cache: Path, directory: Path, progress: Progress, findings: list[Finding]) -> dict[str, Any]:
    """Write the tables as the source yields them; of the user's own, bad rows become findings and stay away."""
    if not isinstance(data, OwnTables):
        sources.fetch(data, cache, progress).save(directory)
        return {}
    from workflows.sources.own_tables.source import OwnRows

    rows, ledger = OwnRows(data, progress), Ledger(refuse=False)
    try:
        users, items = rows.users_and_items(ledger)
        write_tables(directory, rows.interactions(users, items, ledger), users, items)
    finally:
        for table, counts in ledger.counts.items():
            findings += _count_findings(table, counts)
        findings += [_bad_rows(problem, ledger, data.bad_rows) for problem in ledger.problems]
    return {"left_out": {table: counts.read - counts.kept for table, counts in ledger.counts.items()}}


def _count_findings(table: str, counts: Counts) -> Iterator[Finding]:
    """Yield what was left out of a table, or added to it, though no row is wrong."""
    if counts.without_attributes:
        of = counts.kept + counts.without_attributes
        severity: Severity = "warning" if counts.without_attributes > MANY * of else "note"
        what = f"are in the interactions alone: their attributes are null; {counts.kept:,} are in the table"
        remedy = f"do the ids mean the same? see data.{table}.columns and types"
        examples = [{"id": key} for key in counts.such_as]
        yield Finding(severity, "partial", table, counts.without_attributes, of, what, remedy, examples=examples)
    if counts.below:
        yield Finding("note", "at-least", table, counts.below, counts.kept, "are below data.at_least", "left out")
    if counts.few:
        what, remedy = "are of users or items with too few rows", "left out: data.min_user_rows, min_item_rows"
        yield Finding("note", "few-rows", table, counts.few, counts.kept, what, remedy)


def _bad_rows(problem: Problem, ledger: Ledger, bad_rows: BadRows) -> Finding:
    table, column, of = problem.table, problem.column, ledger.of(problem.table).read
    severity: Severity = "error" if bad_rows == "refuse" else "warning"
    message = f"{column}: must be {problem.expected}" if column else f"must be {problem.expected}"
    remedy = problem.remedy if bad_rows == "refuse" else f"left out; {problem.remedy}"
    check = f"bad-row/{problem.reason}"
    return Finding(severity, check, table, problem.rows, of, message, remedy, column, problem.examples)


def _recipe_findings(stored: Stored, data: Data, query: FeatureSide, item: FeatureSide) -> Iterator[Finding]:
    """Yield what the features ask for and the tables do not have."""
    needing, every_row = needing_time(data.split, query, item), ("interactions", sum(stored.rows), sum(stored.rows))
    if needing and not is_dated(stored):
        message = f"the interactions have no time, which is needed by {', '.join(needing)}"
        remedy = "say which column holds it, or leave these out and choose a random split"
        yield Finding("error", "no-time", *every_row, message, remedy, Columns.Timestamp)
    dated = history_of(query) is not None
    for side, section, frame in (
        (query, "query.features", _queries(stored)),
        (item, "item.features", stored.items),
    ):
        try:
            planned = plan(side, section)
        except RecipeError as error:
            yield Finding.of_error("feature", section, error, "see the recipe reference")
            continue
        for entry in planned:
            try:
                describe(frame, [entry], section, dated=dated and section == "query.features")
            except RecipeError as error:
                yield Finding.of_error("feature", section, error, "name a column that is there, of a kind that fits")
    for column in (name for name in (Columns.Rating, Columns.Event) if name in query.features):
        message = "a feature of the query, though nobody knows it before the item is chosen"
        yield Finding("warning", f"leakage/{column}", *every_row, message, "leave it out of [query.features]", column)


def _queries(stored: Stored) -> pd.DataFrame:
    """Return the first interactions with the columns of their users."""
    rows = read_part(stored.parts[0]).iloc[:SAMPLED_ROWS]
    own = [name for name in stored.users.columns if name not in rows.columns or name == Columns.User]
    return rows.merge(stored.users[own], on=Columns.User, how="left")
