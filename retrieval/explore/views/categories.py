"""The category of an item that gives it its colour on the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

LEAST_SHARE = 0.02
"""A category that fewer of the items have is nobody's main one."""
OTHER = "other"


def main_categories(values: Sequence[Any]) -> list[str]:
    """Return each item's rarest category, but not one that fewer than LEAST_SHARE of the items have; else OTHER."""
    lists = [categories(value) for value in values]
    counts = Counter(name for names in lists for name in set(names))
    common = {name: count for name, count in counts.items() if count >= LEAST_SHARE * len(lists)}
    return [min((name for name in names if name in common), key=common.__getitem__, default=OTHER) for names in lists]


def categories(value: Any) -> list[str]:
    """Return the categories in a cell, which holds several, one or none."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(category) for category in value]
    return [] if value is None or value != value else [str(value)]
