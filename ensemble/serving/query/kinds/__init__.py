"""How each kind of feature is served: the closed set of operators that a transform may consist of.

The files are called as in `workflows/features/kinds`, which says what each kind is.
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
