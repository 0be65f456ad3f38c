"""A history that is pooled by its plain mean alone: `history_decay_seconds = []`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from models.config import Model, Train
from models.evaluation.stage import evaluate
from models.training.stage import train
from workflows.config import Categorical, FeatureSide, RandomSplit, Sequence
from workflows.features import stage as features
from workflows.tables.store import Tables


def test_towers_without_decays_are_exported_and_take_the_ages_all_the_same(tmp_path: Path) -> None:
    """Without a decay the recency weights have no elements, which the export once made a wrong graph of."""
    random, rows = np.random.default_rng(0), 1200
    tables = Tables(
        interactions=pd.DataFrame(
            {
                "user_id": random.integers(0, 20, rows),
                "item_id": random.integers(0, 30, rows),
                "rating": np.ones(rows, np.float32),
                "timestamp": 1_000_000_000 + np.arange(rows),
            }
        ),
        users=pd.DataFrame({"user_id": np.arange(20)}),
        items=pd.DataFrame({"item_id": np.arange(30), "title": [f"item {i}" for i in range(30)]}),
    )
    query = FeatureSide(features={"user_id": Categorical(), "history": Sequence(last=5)})
    features.build(
        tables, query, FeatureSide(features={"item_id": Categorical()}), RandomSplit(), "cpu", tmp_path / "f"
    )
    model = Model(tower=(8,), embedding_dim=8, history_decay_seconds=())
    train(features.load(tmp_path / "f"), model, Train(epochs=1, refit=False), 0, "cpu", tmp_path / "t", lambda _: None)
    assert evaluate(tmp_path / "f", tmp_path / "t", "random")["rows"] == 240
    session = onnxruntime.InferenceSession(str(tmp_path / "t" / "query.onnx"), providers=["CPUExecutionProvider"])
    assert {tensor.name for tensor in session.get_inputs()} == {"user_id", "history", "history_age"}
