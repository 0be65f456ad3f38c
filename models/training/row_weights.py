"""Which rows are learned from, and what their losses are multiplied by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.config import Threshold, Train, Weighted
from models.metrics import Float32Array
from models.towers.heads import Scale
from models.training.losses.ratings import positives, weights
from models.training.losses.tasks import EVENTS, event_weights
from models.training.weights.warm_start import Start
from workflows.columns import Columns
from workflows.errors import RecipeError


class RowWeights:
    """What the recipe makes of the ratings, events and times of rows, which are seen all at once or some at a time.

    Rows that retrieval has no use for, being no positives or events of weight 0, are left out, unless their ratings are
    learned from; so are those that are not new to a warm start.
    """

    def __init__(self, train: Train, start: Start | None = None) -> None:
        self._rating, self._tasks, self._start = train.objective.rating, train.tasks, start
        self._range, self._newer = (np.inf, -np.inf), False
        self._rows, self._sum, self._about = 0, 0.0, 0.0
        self._apart = np.zeros(2)
        """Of the ratings from `about`, one of them: the sum, and that of the squares."""

    def of(self, rows: pd.DataFrame) -> Float32Array:
        """Return what the retrieval losses of rows are multiplied by, but for `mean`, float32 `[rows]`; -1: the row is
        left out.

        Raises
        ------
        RecipeError
            There is no column of events, or a row's is none that the recipe names.
        """
        ratings, kinds = rows[Columns.Rating].to_numpy(np.float32), event_weights(rows, self._tasks)
        low, high = self._range
        self._range = np.fmin.reduce(ratings, initial=low), np.fmax.reduce(ratings, initial=high)
        learned = kinds > 0
        if isinstance(self._rating, Threshold):
            learned &= ratings >= self._rating.positive_from
        values = kinds * learned * (ratings if isinstance(self._rating, Weighted) else 1)
        kept = np.ones(len(rows), bool) if self._tasks and self._tasks.rating else learned
        if not self._rows and kept.any():
            self._about = float(ratings[kept][0])
        apart = ratings[kept] - np.float64(self._about)
        self._rows += int(kept.sum())
        self._sum += float(values[kept].sum(dtype=np.float64))
        self._apart += apart.sum(), np.square(apart).sum()
        if self._start:
            kept = kept & self._start.newer(rows)
        self._newer |= bool(kept.any())
        return np.where(kept, values, -1).astype(np.float32)

    def check(self) -> None:
        """Raise RecipeError where what all rows have does not allow what the recipe does with it."""
        extremes = pd.DataFrame({Columns.Rating: np.array(self._range, np.float32)})
        positives(extremes, self._rating)
        weights(extremes, self._rating)
        if not self._sum:
            raise RecipeError(f"{EVENTS} weights: no row is of a kind with a weight; give one that occurs more than 0")
        if self._start and not self._newer:
            raise self._start.nothing_newer()

    @property
    def mean(self) -> np.float32:
        """What weights are divided by, so that they are 1 on average."""
        return np.float32(self._sum / self._rows)

    @property
    def scale(self) -> Scale:
        """That of the ratings."""
        mean, square = self._apart / self._rows
        return Scale(self._about + float(mean), float(np.sqrt(max(square - mean * mean, 0.0))) or 1.0)
