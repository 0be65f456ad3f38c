"""What checks report."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from msgspec import Struct

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""error: a run would fail or measure nothing; warning: look at it first; note: good to know."""
EXAMPLES: Final = 3


class Finding(Struct):
    """One thing that is wrong or suspicious."""

    severity: Severity
    check: str
    """Its short name, such as `duplicate` or `cold/users`."""
    table: str
    rows: int
    """How many rows it is about."""
    of: int
    """Out of how many."""
    message: str
    remedy: str
    column: str | None = None
    examples: list[dict[str, Any]] = []

    @classmethod
    def of_error(cls, check: str, table: str, error: Exception, remedy: str) -> Finding:
        """Return the finding that an exception is."""
        return cls("error", check, table, 0, 0, str(error), remedy)

    @property
    def share(self) -> float:
        """Rows out of all."""
        return self.rows / self.of if self.of else 0.0


class Checked(Struct, kw_only=True):
    """What was looked at, and what was found."""

    facts: dict[str, Any]
    """Counts of users, items and interactions, of the split's parts, and the cold shares of the test."""
    findings: list[Finding]

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
