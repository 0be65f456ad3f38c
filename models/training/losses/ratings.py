"""What a rating does to a training row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.config import Rating, Threshold, Weighted
from models.metrics import Float32Array
from workflows.columns import Columns
from workflows.errors import RecipeError


def positives(interactions: pd.DataFrame, rating: Rating) -> npt.NDArray[np.bool_]:
    """Return which rows are learned from, bool `[rows]`.

    Raises
    ------
    RecipeError
        None is.
    """
    if not isinstance(rating, Threshold):
        return np.ones(len(interactions), bool)
    positive = interactions[Columns.Rating].to_numpy() >= rating.positive_from
    if len(positive) and not positive.any():
        raise RecipeError(
            f"[train.objective] rating: no row is rated {rating.positive_from:g} or better, the best is "
            f"{interactions[Columns.Rating].max():g}; lower positive_from"
        )
    return positive


def weights(interactions: pd.DataFrame, rating: Rating) -> Float32Array:
    """Return what each row's loss is multiplied by, float32 `[rows]`, one on average.

    Raises
    ------
    RecipeError
        Rows are to be weighted by ratings, and one is negative, or none is positive.
    """
    if not isinstance(rating, Weighted):
        return np.ones(len(interactions), np.float32)
    ratings = interactions[Columns.Rating].to_numpy(np.float32)
    if ratings.min(initial=0.0) < 0 or not ratings.any():
        raise RecipeError(
            f"[train.objective] rating: weights cannot be made of ratings from {ratings.min():g} to {ratings.max():g}; "
            'they must be 0 or more, one of them more; use kind = "ignore" or "threshold"'
        )
    return ratings / ratings.mean(dtype=np.float64).astype(np.float32)
