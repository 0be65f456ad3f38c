"""What a recipe says of training, by the size of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from retrieval.init.profile import Found, Sampled
from workflows.columns import Columns

STEPS: Final = 80
"""At least about so many batches make an epoch."""
BATCHES: Final = (128, 256, 512)
"""Sizes for small data; larger data has the default."""
FEW_ROWS: Final = 50_000
"""Below, validation figures are of few rows and jump: training waits longer for a better one."""
MANY_ITEMS: Final = 3000
"""From here on a sample of items is cheaper in every step than all of them, and as good."""


def settings(interactions: Sampled, roles: Mapping[str, Mapping[str, Found]]) -> Iterator[tuple[str, str]]:
    """Yield lines of `[train]`, each with its reason."""
    rows = interactions.rows
    items = roles["interactions"][Columns.Item].column.distinct
    few = interactions.whole and rows < FEW_ROWS
    yield 'preset = "auto"', "beside the towers the best of EASE, item KNN and ALS, as validation rows say"
    if few:
        yield "epochs = 60", "at most; training stops earlier where the validation rows say so"
        yield "patience = 10", f"{rows:,} rows are few: a better epoch may be some way off"
    else:
        yield "epochs = 30", "training stops earlier where the validation rows say so"
    fitting = [size for size in BATCHES if rows < 2 * size * STEPS]
    if interactions.whole and fitting:
        yield f"batch_size = {fitting[0]}", f"some {rows // fitting[0]} steps an epoch"
    if items >= MANY_ITEMS:
        yield 'objective = { candidates = { kind = "sampled" } }', f"{items:,} items are too many for every step"
