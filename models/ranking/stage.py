"""Stage rank: features and towers to a ranker, trained on what the towers retrieve."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.config import Model, Train
from models.data import join
from models.metrics import Float32Array
from models.ranking import config
from models.ranking.cold import Cold
from models.ranking.evaluation import ndcg, reordered
from models.ranking.export import PARAMETERS, export_ranker
from models.ranking.inttower import IntTower
from models.ranking.model import RankingModel, Sides
from models.ranking.selection import complexity, selected
from models.ranking.training import (
    Rows,
    Towers,
    batches,
    exported_towers,
    held_out_rows,
    searched_towers,
    training_rows,
)
from models.towers.two_tower import TwoTowerModel
from models.training.weights.finite import FiniteGuard
from workflows.config import Device
from workflows.features.stage import FeatureSet
from workflows.files import json_bytes
from workflows.progress import Progress

CHECKPOINT = "checkpoint"
VALIDATED_ROWS = 4_000
"""At most, after every epoch; drawn evenly."""
_CHECKED_ROWS = 64


class Task(NamedTuple):
    """What a ranker is made of and for."""

    data: FeatureSet
    ranking: config.Ranking
    model: Model
    train: Train
    seed: int
    progress: Progress

    def build(self, towers: Towers, **more: Any) -> RankingModel:
        """Return an untrained ranker behind these towers."""
        tf.keras.utils.set_random_seed(self.seed)
        tf.config.experimental.enable_op_determinism()
        ranker = untrained(self.data, towers, self.ranking, self.model, **more)
        optimizer = tf.keras.optimizers.Adam(self.ranking.learning_rate)
        if self.ranking.weight_decay:
            optimizer = tf.keras.optimizers.AdamW(self.ranking.learning_rate, weight_decay=self.ranking.weight_decay)
        ranker.compile(optimizer=optimizer)
        return ranker

    def guard(self, rows: Rows, what: str) -> FiniteGuard:
        """Return what ends a training on these rows that diverges."""
        features = [rows.query, self.data.items]
        return FiniteGuard(f"ranker, {what}", self.ranking.learning_rate, features, "ranking")

    def batches(self, rows: Rows) -> tf.data.Dataset:
        """Return the rows as training takes them."""
        return batches(rows, self.ranking.negatives, self.ranking.batch_size, self.seed)


def train_ranker(
    data: FeatureSet,
    towers: Path,
    ranking: config.Ranking,
    model: Model,
    train: Train,
    seed: int,
    device: Device,
    out: Path,
    progress: Progress,
) -> None:
    """Train a ranker on what the towers retrieve and export it.

    The number of epochs is that with the best ndcg@10 of validation rows, retrieved and then ranked; where the towers
    were retrained on training and validation rows, so is the ranker. `out` gets `ranker.onnx`, `items.npy`,
    `params.json`, `history.json` and `checkpoint`.

    Parameters
    ----------
    data
        The features, with all rows of training and validation.
    towers
        The folder of the exported towers.
    ranking
        The ranker's kind and settings.
    model, train
        Settings of the towers that hold for the ranker, too: the width of embeddings, the history, which rows are
        positives, whether to retrain.
    seed
        Of the weights, the drawn rows and their order.
    device
        `cpu` keeps TensorFlow off a GPU.
    out
        The folder to write to.
    progress
        Is called with a line for each epoch.

    Raises
    ------
    DivergedError
        Loss or weights are not finite; names epoch and step, and what to change.
    """
    started, task = time.perf_counter(), Task(data, ranking, model, train, seed, progress)
    place: AbstractContextManager[Any] = tf.device("/CPU:0") if device == "cpu" else nullcontext()
    with place:
        facts = _searched(task, towers)
        ranker, history = facts.pop("ranker"), facts.pop("history")
        released = exported_towers(towers)
        if train.refit:
            rows = training_rows(data, join([data.train, data.valid]), released, train, ranking.candidates, seed)
            progress(f"retraining on training and validation rows, {facts['epochs']} epochs")
            ranker = task.build(released, field_names=facts.get("kept"))
            ranker.fit(task.batches(rows), epochs=facts["epochs"], verbose=0, callbacks=[task.guard(rows, "refit")])
        ranker.save_weights(out / CHECKPOINT)
        pairing = json.loads((towers / "towers.json").read_text(encoding="utf-8"))["pairing"]
        facts |= {"kind": _kind(ranking), "candidates": ranking.candidates, "pairing": pairing}
        checked = held_out_rows(data, data.test, join([data.train, data.valid]), released, 50, _CHECKED_ROWS)
        facts["train_s"] = round(time.perf_counter() - started, 1)
        (out / "history.json").write_bytes(json_bytes(history))
        export_ranker(ranker, checked.query, checked.vectors, checked.candidates, facts, out)


def untrained(
    data: FeatureSet,
    towers: Towers,
    ranking: config.Ranking,
    model: Model,
    field_names: Sequence[str] | None = None,
    selection: config.FieldSelection | None = None,
) -> RankingModel:
    """Return an untrained ranker over the catalogue of a feature set; `field_names` and `selection` are of `Cold`."""
    sides = Sides(data.query_specs, data.item_specs, towers.items.shape[1])
    embedded = Model(
        embedding_dim=model.embedding_dim,
        unseen_rate=model.unseen_rate,
        history_decay_seconds=model.history_decay_seconds,
        history_dropout=model.history_dropout,
    )
    scale = 1.0 / model.temperature  # where the towers' softmax has it
    ranker: RankingModel
    if isinstance(ranking, config.IntTower):
        ranker = IntTower(sides, ranking, embedded, data.pretrained, scale)
    else:
        ranker = Cold(sides, ranking, embedded, data.pretrained, scale, field_names, selection)
    catalogue = TwoTowerModel(data.query_specs, data.item_specs, data.items, embedded).catalogue
    ranker.learn_from(catalogue, tf.convert_to_tensor(towers.items), ranking.loss == "binary")
    return ranker


def trained_ranker(data: FeatureSet, towers: Path, ranker: Path, ranking: config.Ranking, model: Model) -> RankingModel:
    """Return the ranker that `train_ranker` left in a directory."""
    field_names = json.loads((ranker / PARAMETERS).read_text(encoding="utf-8")).get("kept")
    ranker_model = untrained(data, exported_towers(towers), ranking, model, field_names=field_names)
    ranker_model.load_weights(ranker / CHECKPOINT).expect_partial()
    return ranker_model


def _searched(task: Task, directory: Path) -> dict[str, Any]:
    """Return the best ranker by validation, its number of epochs, and what was measured."""
    towers = searched_towers(task.data, task.model, task.train, directory)
    count, data = task.ranking.candidates, task.data
    task.progress(f"retrieving {count} candidates for each row")
    rows = training_rows(data, data.train, towers, task.train, count, task.seed)
    valid = held_out_rows(data, data.valid, data.train, towers, count, VALIDATED_ROWS)
    chosen = _selected(task, towers, rows)
    ranker, dataset = task.build(towers, field_names=chosen.get("kept")), task.batches(rows)
    history: list[dict[str, float]] = [{"epoch": 0, "valid_unseen.ndcg@10": ndcg(valid.candidates, valid.targets)}]
    best, weights = 0, list[np.ndarray]()
    while len(history) <= task.ranking.epochs and len(history) - 1 - best < task.ranking.patience:
        guard = task.guard(rows, "search")
        fitted = ranker.fit(
            dataset, initial_epoch=len(history) - 1, epochs=len(history), verbose=0, callbacks=[guard]
        ).history
        value = ndcg(reordered(scores_of(ranker, valid), valid.candidates), valid.targets)
        history.append({"epoch": len(history), "loss": fitted["loss"][0], "valid_unseen.ndcg@10": value})
        task.progress(f"epoch {len(history) - 1}: loss {fitted['loss'][0]:.3f}, validation ndcg@10 {value:.4f}")
        if best == 0 or value > history[best]["valid_unseen.ndcg@10"]:
            best, weights = len(history) - 1, ranker.get_weights()
    ranker.set_weights(weights)
    return {"ranker": ranker, "epochs": best, "history": history, **chosen}


def _selected(task: Task, towers: Towers, rows: Rows) -> dict[str, Any]:
    """Return the names of the `fields` that are worth their cost, and how they were found; {} where all are taken."""
    ranking = task.ranking
    if not isinstance(ranking, config.Cold) or ranking.selection is None:
        return {}
    task.progress(f"learning which fields are worth their cost, {ranking.selection.epochs} epochs")
    ranker = task.build(towers, selection=ranking.selection)
    assert isinstance(ranker, Cold)
    assert ranker.gates is not None
    guard = task.guard(rows, "selection of fields")
    ranker.fit(task.batches(rows), epochs=ranking.selection.epochs, verbose=0, callbacks=[guard])
    open_ = ranker.gates.probabilities()
    field_names = selected(ranker.fields, open_, ranking.selection.keep)
    fields = [
        {**field._asdict(), "complexity": round(complexity(field, ranking.selection), 3), "open": round(float(by), 4)}
        for field, by in zip(ranker.fields, open_, strict=True)
    ]
    task.progress(f"kept {len(field_names)} of {len(fields)} fields: {', '.join(field_names)}")
    return {"kept": field_names, "fields": fields}


def scores_of(ranker: RankingModel, rows: Rows) -> Callable[[slice, np.ndarray], Float32Array]:
    """Return what scores candidates, int32 `[n, m]`, of a slice of the rows."""
    sides = ranker.catalogue_sides()

    @tf.function(reduce_retracing=True, autograph=False)
    def score(features: dict[str, tf.Tensor], vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return ranker.scores(features, vectors, tf.gather(sides, tf.maximum(items, 0)))

    def scores(part: slice, items: np.ndarray) -> Float32Array:
        features = {name: tf.convert_to_tensor(values[part]) for name, values in rows.query.items()}
        vectors = tf.convert_to_tensor(rows.vectors[part])
        scored: Float32Array = score(features, vectors, tf.convert_to_tensor(items)).numpy()
        return scored

    return scores


def _kind(ranking: config.Ranking) -> str:
    return "inttower" if isinstance(ranking, config.IntTower) else "cold"
