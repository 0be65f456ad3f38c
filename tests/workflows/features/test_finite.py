"""Numbers that do not fit float32: told by table, column, row and value, before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflows.config import Aggregate, Categorical, Continuous, Embedding, FeatureSide, MultiHot, RandomSplit
from workflows.errors import DataError
from workflows.features.stage import build
from workflows.tables.store import Tables

ROWS, USERS, ITEMS = 300, 30, 20
PLAIN = Continuous(normalise=False)
CASES: dict[str, tuple[str, Any, Any, str]] = {
    "too large to be normalised": ("users", Continuous(), 1e300, "'odd'.*cannot be normalised"),
    "an infinity": ("users", Continuous(), -np.inf, "'odd'.*cannot be normalised"),
    "a range beyond float64": ("users", Continuous(normalise="min-max"), -1.7e308, "'odd'.*cannot be normalised"),
    "finite in float64 alone": ("users", PLAIN, 1e39, r"users: column 'odd', row \d+: .*odd = 1e\+39"),
    "of a user without interactions": ("nobody", PLAIN, 1e39, r"users: column 'odd', row 29: .*odd = 1e\+39"),
    "of an item": ("items", PLAIN, -1e39, r"items: column 'odd', row 3: .*odd = -1e\+39"),
    "of an interaction": ("interactions", PLAIN, 1e39, r"interactions: column 'odd', row 3: .*odd = 1e\+39"),
    "a hole in a vector": ("items", Embedding(), [1.0, np.nan], r"items: column 'odd', row 3: .*\[1.0, nan\]"),
    "a vector beyond float32": ("items", Embedding(), [1.0, 1e39], r"items: column 'odd', row 3"),
    "a weight": ("items", MultiHot(weights="odd"), [1e39, 1.0], r"items: column 'tags', row 3: .*1e\+39"),
    "what an aggregate learns": ("interactions", Aggregate(of="odd"), 1e300, "column 'odd': the mean"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_features_stage_refuses_it_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    table, feature, value, message = CASES[name]
    with pytest.raises(DataError, match=message):
        built(tmp_path / "features", table, feature, value)
    assert list(tmp_path.iterdir()) == []


def test_what_normalising_makes_finite_is_kept(tmp_path: Path) -> None:
    """1e39 is no float32, and two standard deviations away is one; equal values have no deviation at all."""
    for number, value in enumerate((1e39, 7.0)):
        built(tmp_path / str(number), "users", Continuous(), value)


def built(out: Path, table: str, feature: Any, value: Any) -> None:
    """Make features of a column `odd` whose row 3 (of `nobody`, the last user) has the value."""
    random = np.random.default_rng(0)
    frames = {
        "interactions": pd.DataFrame(
            {
                "user_id": random.integers(0, USERS - 1, ROWS),
                "item_id": random.integers(0, ITEMS, ROWS),
                "rating": np.ones(ROWS, np.float32),
                "timestamp": 1_000_000_000 + np.arange(ROWS),
            }
        ),
        "users": pd.DataFrame({"user_id": np.arange(USERS)}),
        "items": pd.DataFrame({"item_id": np.arange(ITEMS), "title": "t", "tags": [["a", "b"]] * ITEMS}),
    }
    held = "users" if table == "nobody" else table
    odd: list[Any] = [[1.0, 2.0] if isinstance(value, list) else 7.0] * len(frames[held])
    odd[-1 if table == "nobody" else 3] = value
    if value == -1.7e308:
        odd[4] = 1.7e308
    frames[held]["odd"] = odd
    column = "user_id" if isinstance(feature, Aggregate) else "tags" if isinstance(feature, MultiHot) else "odd"
    query, item = ({f"{side}_id": [Categorical()]} for side in ("user", "item"))
    of = item if held == "items" else query
    of.setdefault(column, []).append(feature)
    build(Tables(**frames), FeatureSide(features=query), FeatureSide(features=item), RandomSplit(), "cpu", out)
