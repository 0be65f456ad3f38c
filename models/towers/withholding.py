"""Training for requests that lack something: features of a query are hidden now and then, as if they were not sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import tensorflow as tf

from models.config import Withheld
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSpec

NULL: Final = 1
"""The code of a scalar feature whose column was not sent; a list is then empty."""
_CODED: Final = ("categorical", "list", "weighted-list", "sequence")


class Withholding:
    """Hides groups of query features, each group from other rows, with a probability of its own.

    Raises
    ------
    RecipeError
        A group names a feature that the query does not have, or one whose missing value is no code but a number.
    """

    def __init__(
        self, specs: Sequence[FeatureSpec], groups: Sequence[Withheld], inputs: Callable[[FeatureSpec], list[str]]
    ) -> None:
        """Take the query's features; `inputs` names the tower inputs that one of them is."""
        self.groups = [(group.rate, [_found(name, specs) for name in group.features]) for group in groups]
        self.inputs = inputs

    def __call__(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the tower inputs of a batch with what is hidden hidden: code 1, or an empty list."""
        out = dict(features)
        for rate, specs in self.groups:
            hidden = tf.random.uniform(tf.shape(out[specs[0].name])[:1]) < rate
            for name in (name for spec in specs for name in self.inputs(spec)):
                values = out[name]
                blank = tf.constant(NULL if values.shape.rank == 1 else 0, values.dtype)
                out[name] = tf.where(hidden if values.shape.rank == 1 else hidden[:, tf.newaxis], blank, values)
        return out


def _found(name: str, specs: Sequence[FeatureSpec]) -> FeatureSpec:
    able = {spec.name: spec for spec in specs if spec.kind in _CODED}
    if name not in able:
        raise RecipeError(
            f"[model] withheld: {name!r} is no feature of the query that can be hidden; there are {', '.join(able)} "
            "(a number has no code for what is missing: make it bucketized)"
        )
    return able[name]
