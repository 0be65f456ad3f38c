"""The kind `continuous`: a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from workflows.features.kinds.base import Compiled, Sources, Unfit, named
from workflows.features.kinds.number import Number

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from workflows.features.plan import Planned
    from workflows.fitting.learned import Learned

_SQUARED: Final = 1e150
"""Numbers beyond have squares that, summed up, are no float64."""


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

    def unfit(self, column: str) -> dict[str, Unfit]:
        return {column: self._unfit}

    def _unfit(self, values: pd.Series) -> npt.NDArray[np.bool_]:
        if values.dtype.kind not in "biuf":
            return np.zeros(len(values), bool)  # another finding says so
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        numbers = np.where(np.isnan(numbers), self.fill, numbers)
        if self.clip_min is not None or self.clip_max is not None:
            numbers = np.clip(numbers, self.clip_min, self.clip_max)
        with np.errstate(all="ignore"):
            if self.log:
                numbers = np.copysign(np.log1p(np.abs(numbers)), numbers)
            unfit: npt.NDArray[np.bool_] = ~np.isfinite(self._normalised(numbers).astype(np.float32))
        far = np.abs(numbers) > _SQUARED
        return unfit & far if unfit.all() and far.any() else unfit

    def _normalised(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if not self.normalise or not len(numbers):
            return numbers
        ranged = self.normalise == "min-max"
        shift, scale = (
            float(numbers.min() if ranged else numbers.mean()),
            float(np.ptp(numbers) if ranged else np.std(numbers)),
        )
        if not (np.isfinite(shift) and np.isfinite(scale)):
            return np.full(len(numbers), np.nan)
        return (numbers - shift) / (scale if scale > 0 else 1.0)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "continuous", self.parameters(learned, output)
