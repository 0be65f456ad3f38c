"""What a recipe says of training, by the size of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pandas as pd

from retrieval.init.columns.profile import Found, Sampled
from retrieval.init.times.timestamps import seconds_of
from workflows.columns import Columns
from workflows.sources.own_tables.types import PER_DAY

STEPS: Final = 80
"""At least about so many batches make an epoch."""
BATCHES: Final = (128, 256, 512)
"""Sizes for small data; larger data has the default."""
FEW_ROWS: Final = 50_000
"""Below, validation figures are of few rows and jump: training waits longer for a better one."""
MANY_ITEMS: Final = 3000
"""From here on a sample of items is cheaper in every step than all of them, and as good."""

VALIDATED: Final = 20_000
"""Validation rows that say well enough which epoch is the best: their recall has a standard error of .002 or so."""
HISTORY: Final = 50
"""Rows of a user that a history holds."""
QUANTILES: Final = (0.02, 0.1, 0.5, 0.9)
UNITS: Final = (("years", 31_557_600), ("days", PER_DAY), ("hours", 3600), ("minutes", 60), ("seconds", 1))
LARGE_CATALOGUE: Final = 10_000
"""Items from which on a low temperature and little dropout do better, by much on Gowalla's 40,981."""


def towers(roles: Mapping[str, Mapping[str, Found]]) -> Iterator[tuple[str, str]]:
    """Yield lines of `[model]`, each with its reason; none where the defaults suit."""
    items = roles["interactions"][Columns.Item].column.distinct
    if decays := _decays(roles["interactions"]):
        ordered = roles["interactions"][Columns.Timestamp].unit == "order"
        ago = ", ".join(f"{age:.0f} rows" if ordered else _duration(age) for age in decays)
        yield f"history_decay_seconds = {decays}", f"of what users did before, quantiles of how long ago: {ago}"
    if items >= LARGE_CATALOGUE:
        yield "temperature = 0.07", f"among {items:,} items the softmax has to be sharp"
        yield "dropout = 0.1", "with so many items it keeps out more than it helps"


def _decays(roles: Mapping[str, Found]) -> list[float]:
    """Return quantiles of how long before a row its user's last HISTORY rows were, in seconds of two digits."""
    if Columns.Timestamp not in roles:
        return []
    read = seconds_of(roles[Columns.Timestamp])
    rows = pd.DataFrame({"user": roles[Columns.User].column.values, "time": read}).dropna()
    rows = rows.sort_values(["user", "time"])
    users, times = pd.factorize(rows["user"])[0], rows["time"].to_numpy()
    ages = np.concatenate(
        [(times[back:] - times[:-back])[users[back:] == users[:-back]] for back in range(1, HISTORY + 1)]
    )
    ages = ages[ages > 0]
    return [*dict.fromkeys(float(f"{age:.2g}") for age in np.quantile(ages, QUANTILES))] if len(ages) else []


def _duration(age: float) -> str:
    unit, size = next((unit, size) for unit, size in UNITS if age >= 2 * size or size == 1)
    return f"{age / size:.0f} {unit}"


def settings(interactions: Sampled, roles: Mapping[str, Mapping[str, Found]]) -> Iterator[tuple[str, str]]:
    """Yield lines of `[train]`, each with its reason."""
    rows = interactions.rows
    items = roles["interactions"][Columns.Item].column.distinct
    few = interactions.whole and rows < FEW_ROWS
    yield 'preset = "auto"', "beside the towers item KNN, a random walk, SVD, EASE and ALS, as validation rows say"
    yield "epochs = 30", "at most; training stops earlier where the validation rows say so"
    if few:
        yield "patience = 10", f"{rows:,} rows are few: a better epoch may be some way off"
    fitting = [size for size in BATCHES if rows < 2 * size * STEPS]
    if interactions.whole and fitting:
        yield f"batch_size = {fitting[0]}", f"some {rows // fitting[0]} steps an epoch"
    if items >= MANY_ITEMS and rows > 10 * VALIDATED:
        yield f"validation_rows = {VALIDATED}", f"more take long to rank among {items:,} items in every epoch"
    if items >= MANY_ITEMS:
        yield 'objective = { candidates = { kind = "sampled" } }', f"{items:,} items are too many for every step"
