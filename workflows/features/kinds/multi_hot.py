"""The kind `multi-hot`: a list of values to a list of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from workflows.features.kinds.base import LISTS, VECTORS, Compiled, Form, Name, Unfit, given, named, unfit_lists
from workflows.features.kinds.coded import Coded
from workflows.section import PositiveInt

if TYPE_CHECKING:
    from workflows.features.plan import Planned
    from workflows.fitting.learned import Learned


class MultiHot(Coded, tag_field="kind", tag="multi-hot", frozen=True, kw_only=True):
    """A list of values to a list of codes, as `categorical` does for one value; the tower takes the mean of their
    embeddings."""

    max_length: PositiveInt = 16
    """Longer lists are cut."""
    keep: Literal["first", "last"] = "first"
    """Which entries of a longer list stay."""
    padding: Literal["right", "left"] = "right"
    """The side on which shorter lists are filled up with zeros."""
    weights: str | None = None
    """A raw column of lists of numbers, as long as these: the mean is weighted by them. An entry whose value or weight
    is null is left out. Without a positive sum the weighted mean is zero."""
    vocabulary: Name | None = None
    """As of `categorical`."""

    example: ClassVar[str] = """\
[item.features]
genres = { kind = "multi-hot", max_length = 8 }
tags = { kind = "multi-hot", weights = "tag_relevance", max_size = 5_000, max_length = 32 }
viewed_before = { kind = "multi-hot", keep = "last", padding = "left", max_length = 20 }
"""

    def columns(self, column: str) -> tuple[str, ...]:
        return (column, self.weights) if self.weights else (column,)

    def accepts(self, column: str) -> tuple[str, ...]:
        return VECTORS if column == self.weights else LISTS

    def unfit(self, column: str) -> dict[str, Unfit]:
        return {self.weights: lambda values: unfit_lists(values, nan=False)} if self.weights else {}

    def outputs(self, name: str) -> tuple[str, ...]:
        return (name, f"{name}_weight") if self.weights else (name,)

    @property
    def form(self) -> Form:
        return "weighted-list" if self.weights else "list"

    @property
    def width(self) -> int | None:
        return self.max_length

    @property
    def shared(self) -> str:
        return self.vocabulary or ""

    def values(self, entry: Planned) -> tuple[Any, Any]:
        """Return the clean lists, and their weights where there are some."""
        from workflows.operators.lists import CleanLists, WeightedLists, weights_of

        if self.weights is None:
            return named(entry) >> CleanLists(), None
        both = [entry.column, self.weights] >> WeightedLists(entry.output, entry.column, self.weights)
        return both[entry.output], both[weights_of(entry.output)]

    def finished(self, codes: Any, rest: Any) -> Any:
        from workflows.operators.lists import CutLists

        last = self.keep == "last"
        chain = codes >> CutLists(self.max_length, last)
        return chain if rest is None else chain + (rest >> CutLists(self.max_length, last))

    def compiled(self, learned: Learned, output: str) -> Compiled:
        used = given(keep_last=self.keep == "last", pad_left=self.padding == "left")
        operator = "weighted_multi_hot" if self.weights else "multi_hot"
        return operator, {"max_length": self.max_length, **used, **self.code_parameters(learned, output)}
