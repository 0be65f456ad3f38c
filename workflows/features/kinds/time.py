"""The kind `time`: a part of a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from workflows.features.kinds.base import ColumnKind, Compiled, Form, Known, Planned, Sources, named
from workflows.operators.times import CARDINALITY, HOUR, TimeOf

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned

TimePart = Literal["hour", "weekday", "month"]


class Time(ColumnKind, tag_field="kind", tag="time", frozen=True, kw_only=True):
    """A part of a time in seconds since 1970, UTC, as a categorical code. Numbers of 10^11 and more (milliseconds) are
    null."""

    part: TimePart
    """`hour` of the day, 0 to 23; `weekday`, Monday first; `month` of the year."""
    cyclic: bool = False
    """Sine and cosine of the position in the day, the week or the year instead, float32 `[n, 2]`, so that 23:59 is near
    0:00; minutes count, days of a month do not. A null is two zeros."""
    utc_offset_hours: Annotated[float, Meta(ge=-14.0, le=14.0)] = 0.0
    """Hours to add before: 5.5 is India's time."""

    example: ClassVar[str] = """\
[query.features]
timestamp = [
    { kind = "time", part = "hour", cyclic = true },
    { kind = "time", part = "weekday", utc_offset_hours = 1.0 },
]
"""

    @property
    def suffix(self) -> str:
        return f"{self.part}_cyclic" if self.cyclic else self.part

    @property
    def form(self) -> Form:
        return "vector" if self.cyclic else "categorical"

    @property
    def width(self) -> int | None:
        return 2 if self.cyclic else 0

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.numbers import TimeCodes, TimeWaves, ToFloat

        time = TimeOf(self.part, self.offset_seconds)
        return named(entry) >> ToFloat("float64") >> (TimeWaves(time) if self.cyclic else TimeCodes(time))

    @property
    def offset_seconds(self) -> int:
        """Return how far the time is ahead of UTC."""
        return round(self.utc_offset_hours * HOUR)

    def codes(self, learned: Learned, output: str) -> int:
        return CARDINALITY[self.part]

    def foretold_codes(self, known: Known, column: str) -> int:
        return CARDINALITY[self.part]

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "cyclic" if self.cyclic else "time", {"part": self.part, "offset": self.offset_seconds}
