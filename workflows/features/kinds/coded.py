"""Base of the kinds whose values have codes by a vocabulary, by a hash, or by both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from workflows.features.kinds.base import VALUES, ColumnKind, Known, Planned, Rule, Sources, named
from workflows.section import PositiveInt

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned

Count = Annotated[int, Meta(ge=0)]
FIRST_KNOWN = 3
"""Codes below are padding, null and unseen."""


class Coded(ColumnKind, frozen=True, kw_only=True):
    """Base of the kinds whose values have codes."""

    min_frequency: Count = 0
    """Values seen less often than this in the training rows count as unseen."""
    max_size: PositiveInt | None = None
    """Keep only this many values, the most frequent ones."""
    hash_buckets: PositiveInt | None = None
    """What is not in the vocabulary goes to one of so many codes, by a hash of its value, instead of counting as
    unseen. Alone it makes no vocabulary: every value is hashed (an open id space). With `max_size` or `min_frequency`
    the values that these keep have codes of their own. Integers are hashed by splitmix64 (Steele et al. 2014), strings
    by BLAKE2b of their UTF-8 bytes (RFC 7693)."""

    def accepts(self, column: str) -> tuple[str, ...]:
        return VALUES

    @property
    def is_limited(self) -> bool:
        """Return whether the vocabulary holds only some of the values."""
        return bool(self.min_frequency or self.max_size)

    @property
    def is_hashed(self) -> bool:
        return bool(self.hash_buckets) and not self.is_limited

    def rules(self) -> list[Rule]:
        both = "min_frequency and max_size cannot be combined; set one of the two"
        hashed = (
            "a vocabulary is not needed where every value is hashed: the same values have the same codes; remove one"
        )
        return [(bool(self.min_frequency and self.max_size), both), (bool(self.shared) and self.is_hashed, hashed)]

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.codes import Codes, HashCodes, ListCodes

        values, rest = self.values(entry)
        lists = self.form != "categorical"
        if self.is_hashed and self.hash_buckets:
            codes: Any = HashCodes(self.hash_buckets, lists)
        else:
            codes = (ListCodes if lists else Codes)(entry.column, out_path=sources.scratch, **self.limits())
        return self.finished(values >> codes, rest)

    def values(self, entry: Planned) -> tuple[Any, Any]:
        """Return the graph of what is encoded, and of what goes along with it, if anything does."""
        return named(entry), None

    def finished(self, codes: Any, rest: Any) -> Any:
        """Return the graph of what is done with the codes, and with what went along."""
        return codes

    def limits(self) -> dict[str, Any]:
        """Return the options of NVTabular's `Categorify`, whose `max_size` counts codes, and the hash buckets."""
        return {
            "freq_threshold": self.min_frequency,
            "max_size": self.max_size + FIRST_KNOWN if self.max_size else 0,
            "hash_buckets": self.hash_buckets,
        }

    def codes(self, learned: Learned, output: str) -> int:
        return self.known_values(learned, output) + (self.hash_buckets or 0)

    def known_values(self, learned: Learned, output: str) -> int:
        """Return how many values the vocabulary holds; 0 where every value is hashed."""
        return 0 if self.is_hashed else learned.vocabulary_size(output)

    def foretold_codes(self, known: Known, column: str) -> int:
        values = 0 if self.is_hashed else self.foretold_values(known, column)
        return values + (self.hash_buckets or 0)

    def foretold_values(self, known: Known, column: str) -> int:
        """Return how many values the vocabulary will hold."""
        return known.distinct(column, None, self.max_size)

    def code_parameters(self, learned: Learned, output: str) -> dict[str, Any]:
        """Return where the served form has its codes from: a vocabulary, a hash, or both."""
        if not self.hash_buckets:
            return {"vocabulary": ""}
        first = FIRST_KNOWN + self.known_values(learned, output)
        hashed: dict[str, Any] = {"hash_buckets": self.hash_buckets, "hash_from": first}
        return hashed if self.is_hashed else {"vocabulary": "", **hashed}
