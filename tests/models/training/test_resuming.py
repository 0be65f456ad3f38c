"""Trainings that are interrupted and go on, and trainings that compute in other ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from msgspec import structs

from models.config import Model, Train
from models.evaluation.stage import evaluate
from models.training.horovod import Ranks
from models.training.stage import train
from models.training.weights.checkpoints import Checkpoints, Session
from workflows.features.stage import load

MODEL = Model(tower=(32, 16), embedding_dim=16, dropout=0.1)
KEY = "what the training depends on"
TRAIN = Train(epochs=6, patience=6, batch_size=256, learning_rate=0.01, refit=False)


class Killed(Exception):
    """Ends a training in the middle."""


def attempt(grouped: Path, work: Path, settings: Train, stop_after: int | None = None) -> tuple[list[int], list[str]]:
    """Train; return the epochs that were run, over all phases, and what was said."""
    epochs, lines = [], []

    def on_epoch(epoch: int, value: float) -> None:
        epochs.append(epoch)
        if epoch == stop_after:
            raise Killed

    session = Session(Ranks(), Checkpoints(work / "training", KEY, seconds=0.0))
    data = load(grouped)
    if stop_after is None:
        train(data, MODEL, settings, 7, "cpu", work / "towers", lines.append, on_epoch, session=session)
    else:
        with pytest.raises(Killed):
            train(data, MODEL, settings, 7, "cpu", work / "towers", lines.append, on_epoch, session=session)
    return epochs, lines


def test_an_interrupted_training_goes_on_with_what_it_had(grouped: Path, tmp_path: Path) -> None:
    settings = structs.replace(TRAIN, schedule="cosine", lazy_rows=100)
    attempt(grouped, tmp_path, settings, stop_after=4)
    state = json.loads((tmp_path / "training/search/state.json").read_text())
    assert (state["epoch"], state["over"]) == (3, False), "the epoch in which it ended is not whole"
    assert Checkpoints(tmp_path / "training", KEY).read("search") == state
    assert Checkpoints(tmp_path / "training", "that of another recipe").read("search") is None
    epochs, lines = attempt(grouped, tmp_path, settings)
    assert epochs == [4, 5, 6]
    assert "going on after epoch 3" in lines[0]
    history = json.loads((tmp_path / "towers/history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert history[3]["loss"] < history[1]["loss"]
    reader = tf.train.load_checkpoint(str(tmp_path / "training/search/epoch-6"))
    held = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "optimizer" in name}
    steps = next(value for name, value in held.items() if "iterations" in name)
    assert steps == 6 * (len(load(grouped).train.interactions) // TRAIN.batch_size), "the optimizer went on, too"
    figures = evaluate(grouped, tmp_path / "towers", "random")
    assert figures["unseen"]["recall@10"] > 2 * figures["popularity"]["unseen"]["recall@10"]
    epochs, lines = attempt(grouped, tmp_path, settings)
    assert epochs == []
    assert "search: going on after its end" in lines[0]
    assert evaluate(grouped, tmp_path / "towers", "random") == figures


def test_another_way_of_computing_trains_the_same_towers(grouped: Path, tmp_path: Path) -> None:
    """Nothing is drawn but the order of the rows: XLA draws other numbers."""
    model = structs.replace(MODEL, dropout=0.0, unseen_rate=0.0)
    curves = {}
    for name in ("plain", "mixed_precision", "xla"):
        settings = structs.replace(TRAIN, epochs=2, batch_size=64, **({name: True} if name != "plain" else {}))
        train(load(grouped), model, settings, 7, "cpu", tmp_path / name, lambda _: None)
        history = json.loads((tmp_path / name / "history.json").read_text())
        curves[name] = np.array([[entry["loss"], entry["valid_unseen.ndcg@10"]] for entry in history])
    np.testing.assert_allclose(curves["xla"], curves["plain"], rtol=0.01)
    # The scaled loss overflows a few times, and these steps are skipped, before its scale is found.
    np.testing.assert_allclose(curves["mixed_precision"][-1], curves["plain"][-1], rtol=0.15)
    assert not np.array_equal(curves["mixed_precision"], curves["plain"]), "it did compute in another way"
    described = json.loads((tmp_path / "mixed_precision/towers.json").read_text())
    graph = onnx.load(tmp_path / "mixed_precision/query.onnx").graph
    held = {tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in held
    assert {node.op_type for node in graph.node}.isdisjoint({"Cast"}), "it computes in float32"
    assert described["parameters"] == json.loads((tmp_path / "plain/towers.json").read_text())["parameters"]
