"""What a model learns from: the loss, and batches of rows, which memory holds or a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np
import tensorflow as tf

from models.baselines.task import interaction_matrix
from models.config import Distillation, Model, Train
from models.data import rows_of
from models.towers.heads import TaskHeads
from models.towers.two_tower import TwoTowerModel
from models.training.horovod import Ranks
from models.training.losses.distillation import PeersTeacher, Product, TowersTeacher
from models.training.losses.objective import Labels, Lesson, Loss, Teacher, build_loss
from models.training.losses.sampling import TrainingRows
from models.training.losses.tasks import task_labels, with_tasks
from models.training.row_weights import RowWeights
from models.training.rows import Rows, shuffled_batches, with_ranges
from models.training.stream.prepare import Source, prepare
from models.training.stream.rows import StreamedRows
from models.training.weights.checkpoints import Phase
from models.training.weights.warm_start import Start
from workflows.features.history import sequence_spec
from workflows.features.stage import FeatureSet, Part, row_counts
from workflows.progress import Progress


class HeldRows:
    """Rows in memory, as tensors.

    Attributes
    ----------
    counts: how often items occur, and who has what
    scale: of the ratings
    numbers: query features that are numbers, by name
    """

    def __init__(self, data: FeatureSet, part: Part, train: Train, start: Start | None) -> None:
        part, histories = with_ranges(part, data.query_specs)
        known = part.interactions
        weights = RowWeights(train, start)
        raw = weights.of(part.interactions)
        weights.check()
        kept = raw >= 0
        if not kept.all():
            part = Part({name: values[kept] for name, values in part.query.items()}, part.interactions[kept])
        self._rows = Rows(part, histories)
        self.counts = TrainingRows(part.interactions, len(data.catalogue), known)
        self.scale = weights.scale
        columns = {"weights": raw[kept] / weights.mean, **task_labels(part.interactions, train.tasks)}
        self._labels = {name: tf.constant(values) for name, values in columns.items()}
        # Codes, which take the most room, are not kept alive: tensors hold the same.
        self.numbers = {name: values for name, values in part.query.items() if values.dtype.kind == "f"}

    def batches(self, batch_size: int, seed: int, ranks: Ranks) -> tf.data.Dataset:
        """Yield `(query features, Labels)` in batches, reshuffled every epoch."""
        columns = {"items": self.counts.items, "users": self.counts.users, **self._labels}

        def batch(index: tf.Tensor) -> tuple[dict[str, tf.Tensor], Labels]:
            labels = {name: tf.gather(values, index) for name, values in columns.items()}
            return self._rows.features(index), Labels(**labels)

        return shuffled_batches(len(self._rows), batch_size, seed, ranks).map(batch).prefetch(2)

    def encode_by(self, teacher: TowersTeacher) -> None:
        """Let `Labels` have what a teacher makes of the queries: made once, it costs the epochs nothing."""
        self._labels["taught"] = tf.concat([teacher.query_vectors(block) for block in self._rows.blocks()], axis=0)

    def first(self, most: int) -> dict[str, tf.Tensor]:
        """Return the features of the first rows, at most so many."""
        return self._rows.first(most)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the users and the items of all rows, int64 `[rows]` each."""
        return self.counts.users.numpy(), self.counts.items.numpy()


class Learned(NamedTuple):
    """What a model learns from."""

    loss: Loss
    heads: TaskHeads | None
    rows: Union[HeldRows, StreamedRows]


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
    rows: HeldRows | StreamedRows
    if data.stored is None:
        rows = HeldRows(data, rows_of(data, parts), train, start)
    else:
        counts = row_counts(data.stored)
        source = Source(data, parts, sum(counts[name] for name in parts), train, start)
        directory = phase.files("rows", lambda out: prepare(source, seed, out, progress))
        rows = StreamedRows(directory, sequence_spec(data.query_specs))
    lesson = _lesson(train.distillation, teachers, rows)
    retrieval = build_loss(train.objective, rows.counts, model.tower[-1], lesson, fixed_shapes=train.xla)
    return Learned(*with_tasks(retrieval, model, train.tasks, rows.scale), rows)


def _lesson(
    distillation: Distillation | None, towers: Sequence[TwoTowerModel], rows: HeldRows | StreamedRows
) -> Lesson | None:
    """Return what the towers, and the recipe's peers, teach; None in a search that awaits its generations."""
    if distillation is None or (distillation.generations and not towers):
        return None
    teachers: list[Teacher] = []
    if towers:
        teacher = TowersTeacher(towers)
        teachers.append(teacher)
        if isinstance(rows, HeldRows):
            rows.encode_by(teacher)
    if distillation.peers:
        users, items = rows.pairs()
        shape = int(users.max()) + 1, rows.counts.num_items
        teachers.append(PeersTeacher(distillation, interaction_matrix(users, items, shape)))
    return Lesson(Product(teachers), distillation.weight, distillation.unseen_only)
