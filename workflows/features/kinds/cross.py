"""The kind `cross`: the values of several columns to the code of their combination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, field

from workflows.features.kinds.base import NUMBERS, VALUES, Compiled, Known, Planned, Rule, rising
from workflows.features.kinds.coded import Coded

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned


class Cross(Coded, tag_field="kind", tag="cross", frozen=True, kw_only=True):
    """The combination of the values of several columns, as one categorical value: `age_and_gender = { kind = "cross",
    of = ["age", "gender"] }`. The key is the feature's name. A null in any of the columns makes it null.

    Values are combined through 64-bit hashes of them, and a combination has its own code (NVTabular `Categorify`)
    unless `hash_buckets` says otherwise.
    """

    of: Annotated[tuple[str, ...], Meta(min_length=2, max_length=8)]
    """The raw columns: integers or strings, or numbers that have `edges`."""
    edges: dict[str, Annotated[tuple[float, ...], Meta(min_length=1)]] = field(default_factory=dict)
    """Columns that are bucketized first, each with its inner edges: `{ age = [18, 25, 35, 50] }`."""

    example: ClassVar[str] = """\
[query.features]
country_and_device = { kind = "cross", of = ["country", "device"], max_size = 10_000 }
age_and_gender = { kind = "cross", of = ["age", "gender"], edges = { age = [18, 25, 35, 50] } }
user_and_city = { kind = "cross", of = ["user_id", "city"], hash_buckets = 1_000_000 }
"""

    def columns(self, column: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.of))

    def accepts(self, column: str) -> tuple[str, ...]:
        return NUMBERS if column in self.edges else VALUES

    def rules(self) -> list[Rule]:
        return [
            *super().rules(),
            (bool(set(self.edges) - set(self.of)), "edges are of columns that `of` does not name"),
            (not all(map(rising, self.edges.values())), "edges must rise strictly"),
        ]

    def values(self, entry: Planned) -> tuple[Any, Any]:
        from workflows.operators.codes import CrossKeys

        return list(entry.columns) >> CrossKeys(entry.output, entry.columns, self.edges), None

    def foretold_values(self, known: Known, column: str) -> int:
        """Return how many combinations there may be; those that occur are fewer."""
        combinations = 1
        for name in self.of:
            combinations *= len(self.edges[name]) + 1 if name in self.edges else known.distinct(name)
        return min(combinations, self.max_size or combinations)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        edges = [list(self.edges.get(name, ())) for name in self.columns(output)]
        return "cross", {"edges": edges, **self.code_parameters(learned, output)}
