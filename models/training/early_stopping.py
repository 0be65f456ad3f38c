"""Validation while training: exact recall after every epoch, early stopping, the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.config import Train
from models.data import distinct_rows, users_and_seen
from models.metrics import Float32Array, Int64Array, Products, rank_targets
from models.towers.blending import BlendedTowers
from models.towers.two_tower import TwoTowerModel
from models.training.horovod import Ranks
from models.training.rows import Histories, Rows
from workflows.columns import Columns
from workflows.features.stage import Part
from workflows.progress import Progress

OnEpoch = Callable[[int, float], None]
"""Called after every epoch with its number, from 1, and the monitored figure; what it raises ends the training."""
ALONE = Ranks()
QUERIES, ITEMS = 8192, 65_536
"""Rows of a batch of each tower."""
_WORST = 1e6
"""Variances that a rating is off by which is not finite: never the best."""
_REPORTED = ("recall@10", "recall@100", "ndcg@10")


class Validation(tf.keras.callbacks.Callback):
    """Measures the validation part after every epoch and stops when it no longer gets better.

    After training, `history` has one entry per epoch and `best_epoch` (1-based) the one whose weights the model
    was given back. Of several ranks each measures its share of the rows. With `trained` the weights that training
    starts from are epoch 0.
    """

    def __init__(
        self,
        valid: tuple[Part, Histories | None],
        known: Part,
        settings: Train,
        checkpoint: Path,
        progress: Progress,
        on_epoch: OnEpoch | None = None,
        ranks: Ranks = ALONE,
        trained: bool = False,
    ) -> None:
        super().__init__()
        asked, histories = valid
        share = ranks.share(len(asked.interactions))
        self.ranks, rows = ranks, asked.interactions.iloc[share]
        self.ratings = rows[Columns.Rating].to_numpy(np.float32)
        self.variance = max(float(asked.interactions[Columns.Rating].to_numpy(np.float64).var()), 1e-12)
        self.targets = rows[Columns.ItemIndex].to_numpy(np.int64)
        self.users, self.seen = users_and_seen(rows, known.interactions)
        queries = {name: values[share] for name, values in asked.query.items()}
        first, self.query = distinct_rows([self.users, *queries.values()])
        distinct = Part({name: values[first] for name, values in queries.items()}, rows.iloc[first])
        self.queries = Rows(distinct, histories)
        self.monitor, self.patience = settings.monitor, settings.patience
        self.checkpoint, self.progress, self.on_epoch = checkpoint, progress, on_epoch
        self.history: list[dict[str, float]] = []
        self.best_epoch, self.best = 0, -np.inf
        self.trained = trained
        self.look: Callable[[str, Float32Array], None] = lambda side, vectors: None
        """Is shown the vectors of each side before they are used."""
        self._started = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Measure weights that were trained before: epoch 0, which may be the best one."""
        if not self.trained or self.history:
            return
        figures = self.measure()
        self.best = figures[f"valid_{self.monitor}"]
        self.history.append({"epoch": 0, "seconds": 0.0, **figures})
        self.progress(f"before the first epoch: validation {self.monitor} {self.best:.4f}")
        if self.ranks.leads:
            self.model.save_weights(self.checkpoint)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, note, keep the weights if they are the best so far, or stop."""
        seconds = time.perf_counter() - self._started
        figures = self.measure()
        loss = self.ranks.means({"loss": np.array([(logs or {})["loss"]])})["loss"]
        self.history.append({"epoch": epoch + 1, "seconds": seconds, "loss": loss, **figures})
        if logs is not None:
            logs.update(figures)  # for TensorBoard, which runs after this
        value = figures[f"valid_{self.monitor}"]
        self.progress(f"epoch {epoch + 1}: loss {loss:.3f}, validation {self.monitor} {value:.4f}, {seconds:.1f} s")
        if value > self.best:
            self.best, self.best_epoch = value, epoch + 1
            if self.ranks.leads:
                self.model.save_weights(self.checkpoint)
        elif epoch + 1 - self.best_epoch >= self.patience:
            self.model.stop_training = True
        if self.on_epoch:
            self.on_epoch(epoch + 1, value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Give the model the best weights back."""
        if self.ranks.leads:
            self.model.load_weights(self.checkpoint)
        self.ranks.copy(self.model.trainable_variables)

    def found(self) -> dict[str, Any]:
        """Return what an interrupted training needs to go on, as JSON."""
        return {"history": self.history, "best": self.best, "best_epoch": self.best_epoch}

    def resume(self, state: dict[str, Any]) -> None:
        """Take what `found` returned."""
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]

    def measure(self) -> dict[str, float]:
        """Return `valid_all.*` and `valid_unseen.*` of the model as it is now, of one that rates `valid_rating.*`.

        Queries and items without finite vectors are not found (`models.metrics`).
        """
        queries, items = encode_rows(self.model, self.queries), encode_items(self.model)
        self.look("query", queries)
        self.look("item", items)
        truth = self.targets, self.users, self.seen, len(items)
        score = Products(queries, items)
        rankings = rank_targets(score, *truth, coverage=False, query=self.query, progress=self.progress)
        return self.ranks.means(
            {f"valid_{name}.{key}": ranking.row_values(key) for name, ranking in rankings.items() for key in _REPORTED}
            | self._rated(queries[self.query], items)
        )

    def _rated(self, queries: Float32Array, items: Float32Array) -> dict[str, Float32Array]:
        """Return each row's squared error of the predicted rating, and what it adds to the mean that is r2."""
        heads = self.model.heads
        if heads is None or heads.tasks.rating is None:
            return {}
        predicted = heads.scale.mean + heads.scale.deviation * heads.rating(queries, items[self.targets]).numpy()
        squared = (predicted - self.ratings) ** 2
        squared = np.where(np.isfinite(squared), squared, _WORST * self.variance).astype(np.float32)
        return {"valid_rating.mse": squared, "valid_rating.r2": 1.0 - squared / self.variance}


def encode_rows(model: TwoTowerModel, queries: Rows, rows: Int64Array | None = None) -> Float32Array:
    """Run the query tower over these rows, int64 `[n]`, or over all, in batches; float32 `[n, d]`."""
    return np.concatenate([model.query_vectors(some).numpy() for some in queries.blocks(rows)])


def encode_queries(model: TwoTowerModel | BlendedTowers, queries: dict[str, tf.Tensor]) -> Float32Array:
    """Run the query tower over all rows, in batches; float32 `[rows, d]`."""
    dataset = tf.data.Dataset.from_tensor_slices(queries).batch(QUERIES)
    return np.concatenate([model.query_vectors(batch).numpy() for batch in dataset])


def encode_items(model: TwoTowerModel | BlendedTowers) -> Float32Array:
    """Run the item tower over the whole catalogue, in batches; float32 `[items, d]`."""
    count = len(next(iter(model.catalogue.values())))
    first = model.item_vectors(items=tf.range(min(ITEMS, count), dtype=tf.int64)).numpy()
    vectors = np.empty((count, first.shape[1]), np.float32)
    vectors[: len(first)] = first
    for start in range(ITEMS, count, ITEMS):
        items = tf.range(start, min(start + ITEMS, count), dtype=tf.int64)
        vectors[start : start + ITEMS] = model.item_vectors(items=items).numpy()
    return vectors
