"""What a model learns from: the loss, and batches of rows, which memory holds or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.config import Distillation, Model, Train
from models.data import rows_of
from models.towers.heads import TaskHeads
from models.towers.two_tower import TwoTowerModel
from models.training.horovod import Ranks
from models.training.losses.distillation import PeersTeacher, Product, TowersTeacher
from models.training.losses.objective import Labels, Lesson, Loss, Teacher, build_loss
from models.training.losses.sampling import ItemCounts, TrainingRows
from models.training.losses.tasks import learned_rows, with_tasks
from models.training.rows import Rows, shuffled_batches, with_ranges
from models.training.stream.prepare import Source, prepare
from models.training.stream.rows import StreamedRows
from models.training.weights.checkpoints import Phase
from models.training.weights.finite import FEW
from models.training.weights.warm_start import Start
from workflows.features.history import sequence_spec
from workflows.features.stage import FeatureSet, Part, row_counts
from workflows.progress import Progress


class Learned(NamedTuple):
    """What a model learns from."""

    loss: Loss
    heads: TaskHeads | None
    counts: ItemCounts
    batches: Callable[[int, int, Ranks], tf.data.Dataset]
    """`(query features, Labels)` of a batch size, a seed and the ranks, reshuffled every epoch."""
    first: Callable[[int], dict[str, tf.Tensor]]
    """The queries of at most so many rows."""
    numbers: Mapping[str, np.ndarray]
    """Query features that are numbers."""


def learned_from(
    data: FeatureSet,
    parts: Sequence[str],
    model: Model,
    train: Train,
    teachers: Sequence[TwoTowerModel],
    start: Start | None,
    phase: Phase,
    seed: int,
    progress: Progress,
) -> Learned:
    """Return what is learned from the rows of parts that there is a use for, with teachers also from these.

    Raises
    ------
    RecipeError
        The rows' ratings or events do not allow what the recipe does with them.
    """
    if data.stored is None:
        return _held(data, rows_of(data, parts), model, train, teachers, start)
    rows = _streamed(data, parts, train, phase, seed, progress)
    loss, first = build_loss(train.objective, rows.counts, model.tower[-1], fixed_shapes=train.xla), rows.first(FEW)
    numbers = {name: values.numpy() for name, values in first.items() if values.dtype.is_floating}
    return Learned(loss, None, rows.counts, rows.batches, rows.first, numbers)


def _streamed(
    data: FeatureSet, parts: Sequence[str], train: Train, phase: Phase, seed: int, progress: Progress
) -> StreamedRows:
    """Return the rows of parts in a file, into which they are shuffled if no interrupted training has done that."""
    assert data.stored is not None
    rows = row_counts(data.stored)
    source = Source(data, parts, sum(rows[name] for name in parts), train.objective.rating)
    directory = phase.files("rows", lambda out: prepare(source, seed, out, progress))
    return StreamedRows(directory, sequence_spec(data.query_specs))


def _held(
    data: FeatureSet,
    part: Part,
    model: Model,
    train: Train,
    teachers: Sequence[TwoTowerModel],
    start: Start | None,
) -> Learned:
    """Return what is learned from the rows of a part, which become tensors."""
    part, histories = with_ranges(part, data.query_specs)
    part, weights = learned_rows(part, train)
    known = part.interactions
    if start:
        part, weights = start.newer(part, weights)
    held, rows = Rows(part, histories), TrainingRows(part.interactions, len(data.catalogue), known)
    lesson = _lesson(train.distillation, teachers, held, rows)
    retrieval = build_loss(train.objective, rows, model.tower[-1], lesson, fixed_shapes=train.xla)
    loss, heads = with_tasks(retrieval, model, train.tasks, part.interactions)
    labels = rows.items, rows.users, tf.constant(weights)

    def batches(batch_size: int, seed: int, ranks: Ranks) -> tf.data.Dataset:
        return _batches(held, labels, batch_size, seed, ranks)

    # Codes, which take the most room, are not kept alive: tensors hold the same.
    numbers = {name: values for name, values in part.query.items() if values.dtype.kind == "f"}
    return Learned(loss, heads, rows, batches, held.first, numbers)


def _lesson(
    distillation: Distillation | None, towers: Sequence[TwoTowerModel], held: Rows, rows: TrainingRows
) -> Lesson | None:
    """Return what the towers, and the recipe's peers, teach; None in a search that awaits its generations."""
    if distillation is None or (distillation.generations and not towers):
        return None
    teachers: list[Teacher] = [TowersTeacher(towers, held)] if towers else []
    if distillation.peers:
        teachers.append(PeersTeacher(distillation, rows))
    return Lesson(Product(teachers), distillation.weight, distillation.unseen_only)


def _batches(rows: Rows, labels: Sequence[tf.Tensor], batch_size: int, seed: int, ranks: Ranks) -> tf.data.Dataset:
    """Yield `(query features, Labels)` in batches, reshuffled every epoch."""
    indices = shuffled_batches(len(rows), batch_size, seed, ranks)

    def batch(index: tf.Tensor) -> tuple[dict[str, tf.Tensor], Labels]:
        items, users, weights = (tf.gather(values, index) for values in labels)
        return rows.features(index), Labels(items, users, weights, index)

    return indices.map(batch).prefetch(2)
