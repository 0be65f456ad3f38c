"""Base of the kinds that are one number: filled, clipped, logarithm, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Union

from workflows.features.kinds.base import ColumnKind, Form, Rule, given

if TYPE_CHECKING:
    from workflows.features.plan import Planned
    from workflows.fitting.learned import Learned


class Number(ColumnKind, frozen=True, kw_only=True):
    """Base of the kinds that are one number."""

    normalise: Union[bool, Literal["min-max"]] = True
    """`true`: subtract the training mean and divide by the training standard deviation (NVTabular `Normalize`).
    `"min-max"`: subtract the training minimum and divide by the training range (NVTabular `NormalizeMinMax`); a value
    outside of that range is outside of 0 to 1."""
    fill: float = 0.0
    """What a null or a NaN becomes, before all that follows."""
    clip_min: float | None = None
    """Smaller numbers become this (NVTabular `Clip`)."""
    clip_max: float | None = None
    """Larger numbers become this."""
    log: bool = False
    """Take log(1 + x) of the clipped number, as NVTabular's `LogOp` does, and -log(1 - x) where it is negative."""

    @property
    def form(self) -> Form:
        return "continuous"

    def rules(self) -> list[Rule]:
        low, high = self.clip_min, self.clip_max
        return [(low is not None and high is not None and low >= high, "clip_min must be below clip_max")]

    def scaled(self, numbers: Any, entry: Planned) -> Any:
        """Return the graph of what is done with a number once it is there."""
        from nvtabular.ops import Clip, FillMissing

        from workflows.operators.numbers import MinMax, SignedLog, Standardise, ToFloat

        chain = numbers >> FillMissing(self.fill)
        if self.clip_min is not None or self.clip_max is not None:
            chain = chain >> Clip(self.clip_min, self.clip_max)
        if self.log:
            chain = chain >> SignedLog()
        if not self.normalise:
            return chain >> ToFloat("float32")
        return chain >> (MinMax if self.normalise == "min-max" else Standardise)(entry.column)

    def parameters(self, learned: Learned, output: str) -> dict[str, Any]:
        """Return the same for the served form; options that are not used are left out."""
        mean, std = learned.shift_and_scale(output) if self.normalise else (0.0, 1.0)
        used = given(clip_min=self.clip_min, clip_max=self.clip_max, log=self.log)
        return {"fill": self.fill, "mean": mean, "std": std, **used}
