"""What was left out of the user's own tables, or added to them, though no row is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from workflows.checks.findings import Finding, Severity
from workflows.sources.own_tables.rows import Counts

MANY: Final = 0.5


def count_findings(counts: Mapping[str, Counts]) -> Iterator[Finding]:
    """Yield rows below thresholds, and ids that a table does not have."""
    for table, counted in counts.items():
        if counted.without_attributes:
            of = counted.kept + counted.without_attributes
            severity: Severity = "warning" if counted.without_attributes > MANY * of else "note"
            what = f"are in the interactions alone: their attributes are null; {counted.kept:,} are in the table"
            remedy = f"do the ids mean the same? see data.{table}.columns and types"
            finding = _finding(severity, "partial", table, counted.without_attributes, of, what, remedy)
            finding.examples = [{"id": key} for key in counted.such_as]
            yield finding
        if counted.below:
            yield _finding(
                "note", "at-least", table, counted.below, counted.kept, "are below data.at_least", "left out"
            )
        if counted.few:
            what = "are of users or items with too few rows"
            yield _finding(
                "note",
                "few-rows",
                table,
                counted.few,
                counted.kept,
                what,
                "left out: data.min_user_rows, min_item_rows",
            )


def _finding(severity: Severity, check: str, table: str, rows: int, of: int, message: str, remedy: str) -> Finding:
    return Finding(severity=severity, check=check, table=table, rows=rows, of=of, message=message, remedy=remedy)
