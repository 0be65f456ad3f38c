"""Towers that go on from earlier ones: what is carried over, what new rows start from, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from models.config import Model
from models.training.weights.warm_start import check_model, set_from_attributes
from workflows.errors import RecipeError
from workflows.features.plan import FeatureSpec


def spec(name: str, kind: Any, cardinality: int, length: int = 0) -> FeatureSpec:
    return FeatureSpec(name=name, source=name, kind=kind, dtype="int64", cardinality=cardinality, max_length=length)


def test_a_new_items_row_is_the_mean_over_its_attributes_of_known_items_mean_rows() -> None:
    """Pinned against the formula written out, item by item and attribute by attribute."""
    random = np.random.default_rng(0)
    items, known = 12, 8
    genres = random.integers(0, 7, (items, 3))  # 0 padding, 2 unseen, 3 to 6 genres
    years = random.integers(2, 9, items)
    genres[10], years[10] = 0, 1  # has no attribute
    genres[11], years[11] = [6, 6, 0], 9  # twice the same one; a year that no known item has
    codes = np.arange(items) + 3
    rows = np.concatenate([np.arange(3 + known), np.full(items - known, 2)])
    specs = [spec("item_id", "categorical", 15), spec("genres", "list", 7, 3), spec("years", "categorical", 10)]
    data: Any = SimpleNamespace(
        catalogue=range(items), item_specs=specs, items={"item_id": codes, "genres": genres, "years": years}
    )
    table = random.random((15, 4)).astype(np.float32)[rows]
    expected = table.copy()
    for item in range(known, items):
        means = []
        for name, values in (("genres", genres.reshape(items, -1)), ("years", years.reshape(items, -1))):
            for value in sorted({code for code in values[item] if code > 2}):
                has = [old for old in range(known) if value in values[old]]
                if has:
                    means.append(table[codes[has]].mean(axis=0))
            assert name
        if means:
            expected[codes[item]] = np.mean(means, axis=0)
    set_from_attributes(table, codes, rows, data)
    np.testing.assert_allclose(table, expected, rtol=1e-5)
    np.testing.assert_array_equal(table[codes[10]], expected[2], "without attributes it starts from the unseen row")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower": (64,)}, r"\[model\] tower is \(64,\), and in runs/x \(128, 64\)"),
        ({"embedding_dim": 32}, r"\[model\] embedding_dim is 32"),
        ({"similarity": "dot"}, r"\[model\] similarity is 'dot'"),
    ],
)
def test_other_towers_are_refused_with_what_differs(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_model(replace(Model(), **change), Model(), Path("runs/x"))


def test_what_only_training_knows_may_change() -> None:
    check_model(Model(dropout=0.1, temperature=0.5, unseen_rate=0.1), Model(), Path("runs/x"))
