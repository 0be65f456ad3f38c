"""Embedding tables beside an exported tower's graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config import Augmentation, Model
from models.towers import tables
from models.towers.onnx import run_tower
from models.towers.two_tower import TwoTowerModel
from models.training.export import convert
from workflows.features.stage import FeatureSpec


def spec(name: str, kind: Any, cardinality: int, length: int = 0, **more: Any) -> FeatureSpec:
    return FeatureSpec(
        name=name, source=name, kind=kind, dtype="int64", cardinality=cardinality, max_length=length, **more
    )


QUERY = [
    spec("user_id", "categorical", 5000),
    spec("city.x", "categorical", 30),
    spec("history", "sequence", 6003, 5),
    spec("words", "list", 9000, 4, table="text"),
]
ITEM = [spec("item_id", "categorical", 6003)]


def test_large_tables_lie_beside_the_graph_which_gives_the_vectors_of_one_with_all_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(tower=(32,), embedding_dim=64, augmentation=Augmentation(query="user_id", item="item_id"))
    towers = TwoTowerModel(QUERY, ITEM, {"item_id": np.arange(3, 99)}, model)
    random = np.random.default_rng(0)
    features = {spec.name: random.integers(0, spec.cardinality, (50, spec.max_length or 1)) for spec in QUERY}
    features = {name: codes.squeeze() for name, codes in features.items()}
    features["history_age"] = random.random((50, 5), np.float32)
    expected = towers.query_vectors({name: tf.constant(values) for name, values in features.items()})

    for place, least in (("beside", tables.LEAST_BYTES), ("within", 1 << 40)):
        monkeypatch.setattr(tables, "LEAST_BYTES", least)
        (tmp_path / place).mkdir()
        convert(towers.query_encoder, QUERY, tmp_path / place / "query.onnx")
    within, beside = (run_tower(tmp_path / place / "query.onnx", features) for place in ("within", "beside"))

    assert {path.stem for path in (tmp_path / "beside/query").iterdir()} == {"user_id", "history", "text.shared"}
    assert not (tmp_path / "within/query").exists()
    assert (tmp_path / "beside/query.onnx").stat().st_size < tables.LEAST_BYTES
    np.testing.assert_array_equal(beside, within)
    np.testing.assert_allclose(beside, expected, atol=1e-6)
    again = towers.query_vectors({name: tf.constant(values) for name, values in features.items()})
    np.testing.assert_array_equal(again, expected)  # the towers have their own tables again
