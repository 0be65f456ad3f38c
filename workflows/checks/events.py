"""What is wrong with the kinds of events that a recipe tells apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow.parquet as pq

from workflows.checks.findings import Finding, Severity
from workflows.columns import Columns
from workflows.tables.store import Stored, read_part


def event_findings(stored: Stored, kinds: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the column `event`, if the recipe names its `kinds`."""
    if not kinds:
        return
    total = sum(stored.rows)

    def finding(severity: Severity, rows: int, message: str, remedy: str) -> Finding:
        table = "interactions"
        return Finding(
            severity=severity,
            check="event",
            table=table,
            column=Columns.Event,
            rows=rows,
            of=total,
            message=message,
            remedy=remedy,
        )

    if Columns.Event not in pq.read_schema(stored.parts[0]).names:
        message = "there is no such column, which train.tasks.events tells apart"
        yield finding("error", total, message, 'say which it is: data.interactions.columns = { event = "..." }')
        return
    counts: Counter[str] = Counter()
    for path in stored.parts:
        counts.update(read_part(path, [Columns.Event])[Columns.Event].astype(str))
    unknown = sorted(set(counts) - set(kinds))
    if unknown:
        message = f"kinds that train.tasks.events does not name: {', '.join(unknown[:10])}"
        yield finding(
            "error", sum(counts[kind] for kind in unknown), message, "name them; a weight of 0 leaves one out"
        )
    for kind in (kind for kind in kinds if not counts[kind]):
        yield finding(
            "warning", 0, f"no row is a {kind!r}", "leave it out of train.tasks.events.kinds, or correct its name"
        )
