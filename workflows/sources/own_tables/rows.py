"""What is wrong with rows: refused at once, or left out and counted by reason with examples."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Struct

from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import EXAMPLES, Chunk, Malformed
from workflows.sources.own_tables.types import Mask

SHOWN_COLUMNS: Final = 8
SHOWN_CHARACTERS: Final = 60


class Fault(NamedTuple):
    """One way in which values of a column can be wrong."""

    column: str | None
    """Our name; None: the row as a whole."""
    reason: str
    """fields, null, type, range, unit, or duplicate."""
    expected: str
    remedy: str


class Problem(Struct, kw_only=True):
    """What is wrong with some rows of a table."""

    table: str
    column: str | None
    reason: str
    expected: str
    remedy: str
    rows: int = 0
    examples: list[dict[str, Any]] = []


class Counts(Struct, kw_only=True):
    """Rows of a table."""

    read: int = 0
    kept: int = 0
    without_title: int = 0
    """Items that are called by their ids because their title is null."""
    below: int = 0
    """Interactions below `at_least`."""
    few: int = 0
    """Interactions of users or items with fewer rows than `min_user_rows` and `min_item_rows`."""
    without_attributes: int = 0
    """Users or items that the interactions have and this table does not."""
    such_as: list[Any] = []
    """The first ids of those."""


class Ledger:
    """Takes every bad row: raises DataError for the first, or counts them.

    A row that is wrong in several ways counts once, under the first.
    """

    def __init__(self, refuse: bool) -> None:
        self.refuse = refuse
        self.counts: dict[str, Counts] = {}
        self._problems: dict[tuple[str, str | None, str], Problem] = {}

    @property
    def problems(self) -> list[Problem]:
        """Every problem found so far, that of the most rows first."""
        return sorted(self._problems.values(), key=lambda problem: -problem.rows)

    def of(self, table: str) -> Counts:
        """Return the counts of a table."""
        return self.counts.setdefault(table, Counts())

    def take(self, other: Ledger) -> None:
        """Take what another ledger counted."""
        self.counts |= other.counts
        self._problems |= other._problems

    def add(self, table: str, fault: Fault, chunk: Chunk, source: str | None, wrong: Mask) -> None:
        """Take the rows of `chunk` where `wrong` [n] is true; `source` is the column in the file that is to blame."""
        positions = np.flatnonzero(wrong)
        if not positions.size:
            return
        examples = [_example(chunk, int(position), source) for position in positions[:EXAMPLES]]
        if self.refuse and (line := chunk.line_of(examples[0]["row"])):
            examples[0]["line"] = line
        self._take(table, fault, source, len(positions), examples)

    def add_malformed(self, table: str, file: str, malformed: Malformed) -> None:
        """Take lines of a CSV file that have not as many fields as its header."""
        expected = f"a row of {malformed.expected} fields, as the header"
        remedy = f"look for a delimiter in a value that is not in quotes, or set data.{table}.delimiter"
        examples = [{"file": file, "line": line, "value": _short(text)} for line, text in malformed.examples]
        self.of(table).read += malformed.lines
        self._take(table, Fault(None, "fields", expected, remedy), None, malformed.lines, examples)

    def _take(self, table: str, fault: Fault, source: str | None, rows: int, examples: list[dict[str, Any]]) -> None:
        if self.refuse:
            raise _refusal(table, fault, source, rows, examples[0])
        known = self._problems.setdefault(
            (table, fault.column, fault.reason), Problem(table=table, **fault._asdict(), examples=[])
        )
        known.rows += rows
        known.examples = (known.examples + examples)[:EXAMPLES]


def _refusal(table: str, fault: Fault, source: str | None, rows: int, example: dict[str, Any]) -> DataError:
    where = ", ".join(f"{name} {example[name]}" for name in ("line", "row") if name in example)
    renamed = f" ({fault.column})" if source and source != fault.column else ""
    what = f"column {source!r}{renamed}" if source else "the line"
    more = f" (and {rows - 1:,} more rows near it)" if rows > 1 else ""
    return DataError(
        f"{example['file']}, {where}: {what} must be {fault.expected}, got {example['value']!r}{more}; {fault.remedy}; "
        'or leave such rows out with data.bad_rows = "drop" (`retrieval check RECIPE` counts them all)'
    )


def _example(chunk: Chunk, position: int, source: str | None) -> dict[str, Any]:
    names = chunk.rows.column_names[:SHOWN_COLUMNS]
    values = {name: _short(_value(chunk.rows, name, position)) for name in names}
    value = _short(_value(chunk.rows, source, position)) if source else None
    return {"file": chunk.file, "row": chunk.first + position, "value": value, "values": values}


def _value(rows: pa.Table, name: str, position: int) -> Any:
    return rows.column(name)[position].as_py()


def _short(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if value is None or (isinstance(value, (int, float)) and value == value and abs(value) < float("inf")):
        return value
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
