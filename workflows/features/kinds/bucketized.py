"""The kind `bucketized`: a number to the index of its bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from workflows.features.kinds.base import ColumnKind, Compiled, Known, Planned, Rule, Sources, named, rising

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned


class Bucketized(ColumnKind, tag_field="kind", tag="bucketized", frozen=True, kw_only=True):
    """A number to the index of its bucket, a categorical code (NVTabular `Bucketize`, equal to
    `numpy.searchsorted(edges, x, side="right")`). A null, which stock `Bucketize` puts into the last bucket, has a code
    of its own."""

    buckets: Annotated[int, Meta(ge=2)] = 100
    """How many buckets, the two open-ended ones included."""
    method: Literal["linear", "quantile"] = "linear"
    """`linear`: edges are evenly spaced between the training minimum and maximum. `quantile`: buckets hold equally many
    training rows, as far as equal values allow; where the interactions come in several parts, to within 0.02 % of all
    rows."""
    edges: tuple[float, ...] | None = None
    """The inner edges themselves, rising; `buckets` and `method` are then not looked at."""

    example: ClassVar[str] = """\
[query.features]
timestamp = { kind = "bucketized", buckets = 60 }
income = { kind = "bucketized", method = "quantile", buckets = 20 }
age = { kind = "bucketized", edges = [18, 25, 35, 50, 65] }
"""

    def rules(self) -> list[Rule]:
        return [(self.edges is not None and not rising(self.edges), "edges must rise strictly, and be there")]

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.numbers import BucketCodes, FittedBuckets, ToFloat

        numbers = named(entry) >> ToFloat("float64")
        if self.edges is not None:
            return numbers >> BucketCodes(list(self.edges))
        return numbers >> FittedBuckets(entry.column, self.buckets, self.method == "quantile")

    def codes(self, learned: Learned, output: str) -> int:
        return len(learned.edges(output)) + 1

    def foretold_codes(self, known: Known, column: str) -> int:
        return self.buckets if self.edges is None else len(self.edges) + 1

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "bucketized", {"edges": learned.edges(output)}
