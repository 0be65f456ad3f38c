"""A small data set with a structure that a two-tower can find and popularity cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workflows.config import Categorical, Continuous, FeatureSide, MultiHot, RandomSplit
from workflows.features import stage as features
from workflows.tables.store import Tables

GROUPS, USERS, ITEMS, ROWS = 8, 160, 240, 6000


@pytest.fixture(scope="session")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of users who choose, nine times in ten, among the 30 items of their own group."""
    random = np.random.default_rng(0)
    users = random.integers(0, USERS, ROWS)
    own = random.random(ROWS) < 0.9
    items = np.where(
        own, users % GROUPS + GROUPS * random.integers(0, ITEMS // GROUPS, ROWS), random.integers(0, ITEMS, ROWS)
    )
    tables = Tables(
        interactions=pd.DataFrame(
            {
                "user_id": users + 1,
                "item_id": items + 1,
                "rating": np.ones(ROWS, np.float32),
                "timestamp": 1_000_000_000 + np.arange(ROWS),
            }
        ),
        users=pd.DataFrame({"user_id": np.arange(USERS) + 1, "age": random.integers(18, 80, USERS)}),
        items=pd.DataFrame(
            {
                "item_id": np.arange(ITEMS) + 1,
                "title": [f"item {i}" for i in range(ITEMS)],
                "tags": [[f"tag {t}" for t in range(i % 3)] for i in range(ITEMS)],
            }
        ),
    )
    out = tmp_path_factory.mktemp("grouped") / "features"
    query = FeatureSide(features={"user_id": Categorical(), "age": Continuous()})
    item = FeatureSide(features={"item_id": Categorical(), "tags": MultiHot()})
    features.build(tables, query, item, RandomSplit(), "cpu", out)
    return out
