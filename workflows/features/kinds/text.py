"""The kind `text`: its words and n-grams, as a list of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from workflows.features.kinds.base import ColumnKind, Compiled, Form, Known, Planned, Sources, named
from workflows.features.kinds.coded import FIRST_KNOWN
from workflows.operators.text import tokens
from workflows.section import PositiveInt

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned


class Text(ColumnKind, tag_field="kind", tag="text", frozen=True, kw_only=True):
    """Lower-cased words (maximal runs of Unicode letters and digits) and their n-grams, as a multi-hot list."""

    ngrams: Annotated[int, Meta(ge=1, le=3)] = 1
    """Longest n-gram; 2 means words and pairs of neighbouring words."""
    max_tokens: PositiveInt = 10_000
    """Size of the vocabulary, the most frequent tokens."""
    max_length: PositiveInt = 32
    """Longer lists of tokens are cut to their first entries."""

    example: ClassVar[str] = """\
[item.features]
title = { kind = "text", ngrams = 2, max_tokens = 20_000, max_length = 24 }
"""

    def accepts(self, column: str) -> tuple[str, ...]:
        return ("strings",)

    @property
    def form(self) -> Form:
        return "list"

    @property
    def width(self) -> int | None:
        return self.max_length

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.codes import ListCodes
        from workflows.operators.lists import CutLists, Tokenize

        codes = ListCodes(entry.column, out_path=sources.scratch, max_size=self.max_tokens + FIRST_KNOWN)
        return named(entry) >> Tokenize(self.ngrams) >> codes >> CutLists(self.max_length)

    def codes(self, learned: Learned, output: str) -> int:
        return learned.vocabulary_size(output)

    def foretold_codes(self, known: Known, column: str) -> int:
        return known.distinct(column, lambda text: tokens(text, self.ngrams), self.max_tokens)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "text", {"vocabulary": "", "max_length": self.max_length, "ngrams": self.ngrams}
