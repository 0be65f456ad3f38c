"""Base of the kinds that are one number: filled, clipped, logarithm, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Union

import numpy as np

from workflows.features.kinds.base import ColumnKind, Form, Planned, Rule, Unfit, given

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from workflows.fitting.learned import Learned

SQUARED: Final = 1e150
"""Numbers beyond have squares that, summed up, are no float64."""


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

    def unfit(self, column: str) -> dict[str, Unfit]:
        return {column: self.unscalable}

    def unscalable(self, values: pd.Series, per: float = 1.0) -> npt.NDArray[np.bool_]:
        """Return which values, divided by `per`, are not finite in float32 once they are scaled; bool `[n]`."""
        if values.dtype.kind not in "biuf":
            return np.zeros(len(values), bool)  # another finding says so
        numbers = values.to_numpy(np.float64, na_value=np.nan) / per
        numbers = np.where(np.isnan(numbers), self.fill, numbers)
        if self.clip_min is not None or self.clip_max is not None:
            numbers = np.clip(numbers, self.clip_min, self.clip_max)
        with np.errstate(all="ignore"):
            if self.log:
                numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
            unfit: npt.NDArray[np.bool_] = ~np.isfinite(self._normalised(numbers).astype(np.float32))
        far = np.abs(numbers) > SQUARED
        return unfit & far if unfit.all() and far.any() else unfit

    def _normalised(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if not self.normalise or not len(numbers):
            return numbers
        ranged = self.normalise == "min-max"
        shift = float(numbers.min() if ranged else numbers.mean())
        scale = float(np.ptp(numbers) if ranged else np.std(numbers))
        if not (np.isfinite(shift) and np.isfinite(scale)):
            return np.full(len(numbers), np.nan)
        return (numbers - shift) / (scale if scale > 0 else 1.0)
