"""The kind `sequence`: what the query's user did up to the query's time.

It is made of the interactions, not of a column, and not by NVTabular: `workflows/features/history.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from workflows.features.kinds.base import Compiled, Kind, given


class Sequence(Kind, tag_field="kind", tag="sequence", frozen=True, kw_only=True):
    """What the query's user did up to the query's time: `history = { kind = "sequence" }` under [query.features].

    `history` is no column of a table: it is made of the interactions, newest first, never anything later than the
    query. The query's time, `timestamp`, becomes an input of the query.
    """

    last: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """The newest interactions, at most this many."""
    padding: Literal["right", "left"] = "right"
    """`left`: the mirror image, the newest interaction in the last place and zeros before the oldest."""

    example: ClassVar[str] = """\
[query.features]
user_id = { kind = "categorical" }
history = { kind = "sequence", last = 50 }
"""

    def needs_time(self, column: str) -> bool:
        return True

    def compiled(self) -> Compiled:
        """Return what its served form does."""
        return "sequence", {"max_length": self.last, **given(pad_left=self.padding == "left")}
