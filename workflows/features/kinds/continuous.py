"""The kind `continuous`: a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from workflows.features.kinds.base import Compiled, Planned, Sources, named
from workflows.features.kinds.number import Number

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned


class Continuous(Number, tag_field="kind", tag="continuous", frozen=True, kw_only=True):
    """A number, as float32: nulls filled, clipped, logarithm, normalised, in this order and in float64."""

    example: ClassVar[str] = """\
[item.features]
price = { kind = "continuous", log = true }
rating_mean = { kind = "continuous", clip_min = 1.0, clip_max = 5.0, normalise = "min-max", fill = 3.0 }
share = { kind = "continuous", normalise = false }
"""

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.numbers import ToFloat

        return self.scaled(named(entry) >> ToFloat("float64"), entry)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "continuous", self.parameters(learned, output)
