"""The kind `age`: the time that has passed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workflows.columns import Columns
from workflows.features.kinds.base import Compiled, Planned, Sources, Unfit
from workflows.features.kinds.number import Number

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned

Unit = Literal["seconds", "minutes", "hours", "days", "years"]
SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0, "years": 31_557_600.0}


class Age(Number, tag_field="kind", tag="age", frozen=True, kw_only=True):
    """The time that has passed since what a column says, until the query or another column; then like `continuous`.

    Both are seconds since 1970. Where either is null the age is `fill`.
    """

    until: str = "timestamp"
    """The raw column of the same side that it is counted to. `timestamp` is the query's time."""
    unit: Unit = "days"
    """A year has 365.25 days."""

    example: ClassVar[str] = """\
[query.features]
registered = { kind = "age", unit = "days", log = true }                        # at the query's time

[item.features]
released = { kind = "age", until = "added_to_catalogue", unit = "years", clip_min = 0.0 }
"""

    def columns(self, column: str) -> tuple[str, ...]:
        return column, self.until

    def unfit(self, column: str) -> dict[str, Unfit]:
        # Each as if the other were 0: beside numbers that float32 cannot hold a time is next to nothing.
        unit = SECONDS[self.unit]
        ends = {column: -unit} if self.until == Columns.Timestamp else {column: -unit, self.until: unit}
        return {name: partial(self.unscalable, per=per) for name, per in ends.items()}

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.numbers import Elapsed

        since, until = entry.columns
        return self.scaled([since, until] >> Elapsed(entry.output, since, until, SECONDS[self.unit]), entry)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "age", {"unit": SECONDS[self.unit], **self.parameters(learned, output)}
