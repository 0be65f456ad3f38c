"""Small valid tables, and the real MovieLens-100K."""

from __future__ import annotations


import numpy as np
import pandas as pd
import pytest

from workflows.tables import Tables


def small_frames() -> dict[str, pd.DataFrame]:
    """Frames that `Tables` accepts: three users, four items, two of them of one title."""
    return {
        "interactions": pd.DataFrame(
            {
                "user_id": np.array([1, 1, 2, 3, 3, 3]),
                "item_id": np.array([10, 30, 20, 40, 10, 30]),
                "rating": np.array([5, 4, 3, 2, 1, 0.5], dtype=np.float32),
                "timestamp": np.array([100, 200, 100, 300, 100, 200]),
            }
        ),
        "users": pd.DataFrame({"user_id": np.array([1, 2, 3]), "gender": ["F", None, "é"], "age": [1.0, np.nan, 3.0]}),
        "items": pd.DataFrame(
            {
                "item_id": np.array([10, 20, 30, 40]),
                "title": ["A", "B", "A", "Ünï"],
                "year": [1990.0, np.nan, 1991.0, 2000.0],
                "genres": [["War"], [], ["Drama", "War"], ["Film-Noir"]],
            }
        ),
    }


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    return small_frames()


@pytest.fixture
def messages() -> list[str]:
    """What a `progress` callback (its `append`) was told."""
    return []
