"""The kinds of features as they are served: the closed set of operators in a transform.

The files have the names of those in `workflows/features/kinds`, which define the kinds.
"""

from __future__ import annotations

from . import age, aggregate, bucketized, categorical, continuous, cross, embedding, multi_hot, text, time
from .base import Operator

OPERATORS: dict[str, Operator] = {
    **categorical.OPERATORS,
    **cross.OPERATORS,
    **continuous.OPERATORS,
    **age.OPERATORS,
    **bucketized.OPERATORS,
    **time.OPERATORS,
    **multi_hot.OPERATORS,
    **text.OPERATORS,
    **aggregate.OPERATORS,
    **embedding.OPERATORS,
}
"""By the `op` of a step."""
