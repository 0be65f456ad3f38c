"""How much memory training and serving take: each array that the code holds, counted; what cannot be counted, measured.

The base, which is Python, TensorFlow, Merlin and the traced graphs, is measured by a rehearsal
(`retrieval.plan.probe`): the whole stage on a few rows. The rest is sums over shapes, in bytes. Arrays that exist
one after the other are not added: the peak is the base, what stays, and the largest of what comes and goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.baselines.factors import KEPT, KINDS, tried
from models.config import BLEND_SCORES, SOFTMAX_BLOCK, Distillation, Model, Sampled, Train
from models.training.stream.conditions import is_streamed
from retrieval.plan.parameters import factor_width, frozen, input_width, parameters, table_name, table_width, total
from retrieval.plan.shapes import Shapes
from workflows.features.plan import FeatureSpec

FLOAT, CODE = 4, 8
"""float32; int64, the type of codes on both sides of TensorFlow."""
RAW_ROW, STORED_ROW = 28, 36
"""user_id, timestamp and item_index are int64, rating float32; files have item_id, too."""
LABELS_ROW, OWNED_ROW, STREAMED_OWNED_ROW = 20, 24, 4
"""The item, user and weight of `Labels`; who has what, where the objective asks, of rows in memory and streamed."""
DRAWN_ROW = 3 * 4
"""The order of an epoch, as NumPy draws it, as a tensor, and cut into batches."""
HISTORY_ROW = 8 + 12
"""Item and time in the sorted index (`models.training.rows`), and the row's range of it."""
SORTED_ROW = 80
"""The arrays in which the index is sorted."""
POOL_BYTES, POOLS = 1 << 26, 5
"""What is shuffled together of rows that are streamed (`models.training.stream.rows`), and the copies of a moment."""
BLENDED_ROW = 70
"""Streamed rows are read for a blend: user, item, time and rating, and the matrices of who has what and when."""
STREAMED_ROW = 32 + 12
"""On disk: item, user, time, weight and the history's range, and the interaction in the index; codes take half."""
ENCODED_AT_ONCE = 8192
"""Rows of a batch in validation (`models.training.early_stopping.encode_queries`)."""
ENCODED_ITEMS = 1 << 16
"""Items of one (`models.training.early_stopping.encode_items`)."""
RANKED_AT_ONCE, RANKED_QUERIES, RANKED = 1 << 22, 32, 4
"""Scores that are held at a time, of so many queries at least (`models.metrics`), and the arrays of that size."""
FORWARD_AND_BACK = 3
"""An activation, its gradient, and one temporary of the operation in between."""


@dataclass(frozen=True)
class Memory:
    """What training or serving holds, bytes by what it is."""

    stays: Mapping[str, int]
    """All at once."""
    passes: Mapping[str, int]
    """One at a time."""

    @property
    def counted(self) -> int:
        """Return the most that is there at once, without the base."""
        return sum(self.stays.values()) + max(self.passes.values(), default=0)


def training(shapes: Shapes, model: Model, train: Train) -> Memory:
    """Return what the train stage holds on the host, besides its base."""
    counts = parameters(shapes.query, shapes.item, model)
    numbers, towers = total(counts, model), towers_alive(train)
    pretrained = frozen(shapes.specs, model, 0)
    factors = frozen(shapes.specs, model, factor_width(model, shapes.users, shapes.items)) - pretrained
    rows, streamed = learned_rows(shapes, train), is_streamed(shapes.rows["train"])
    validated = min(shapes.rows["valid"], train.validation_rows or shapes.rows["valid"])
    stays = {
        "tables and features read": _rows_read(shapes, train, validated if streamed else None)
        * (RAW_ROW + _row_bytes(shapes.query, history=False))
        + shapes.items * _row_bytes(shapes.item),
        "rows trained on": POOLS * POOL_BYTES + rows * STREAMED_OWNED_ROW * train.asks_who_has_what
        if streamed
        else rows * (_trained_row(shapes, train) + DRAWN_ROW),
        "rows validated": 2
        * validated
        * (_row_bytes(shapes.query, history=False) + HISTORY_ROW * _has_history(shapes)),
        "weights": towers * FLOAT * (numbers + pretrained),
        "optimizer (Adam)": towers * FLOAT * _moments(shapes, model, train),
        "gradients": FLOAT * dense_numbers(shapes, model, train),
        "teachers": _teachers(shapes, model, train, 0 if streamed else rows),
    }
    # Sorted first: what is trained is made in the room that this leaves.
    made_later = sum(stays[name] for name in ("rows trained on", "weights", "optimizer (Adam)"))
    passes = {
        "fitting the peers": _fitting_peers(shapes, train),
        "sorting the histories": max(0, rows * SORTED_ROW * _has_history(shapes) - made_later) * (not streamed),
        "choosing the blend": _choosing_blend(shapes, model) + rows * BLENDED_ROW * bool(streamed and model.blend),
        "the blend beside the towers": 2 * FLOAT * factors,
        "a training step": sum(step(shapes, model, train).values()),
        "a validation": FLOAT
        * max(
            min(validated, ENCODED_AT_ONCE) * _tower_row(shapes.query, model, 2),
            min(shapes.items, ENCODED_ITEMS) * _tower_row(shapes.item, model, 2, shapes.item_lengths),
            RANKED * max(RANKED_AT_ONCE, RANKED_QUERIES * shapes.items),
        )
        + FLOAT * shapes.items * model.tower[-1],
        # Tables are mapped, and items encoded by both sides.
        "comparing the exported towers": FLOAT * (numbers + 2 * shapes.items * model.tower[-1]),
    }
    return Memory({name: size for name, size in stays.items() if size}, {k: v for k, v in passes.items() if v})


def learned_rows(shapes: Shapes, train: Train) -> int:
    """Return how many rows there are to train on in the end."""
    return shapes.rows["train"] + (shapes.rows["valid"] if train.refit else 0)


def _rows_read(shapes: Shapes, train: Train, validated: int | None) -> int:
    """Return how many raw rows are held: all, and both parts again where they are joined; where rows are streamed the
    `validated` ones and what their users had before."""
    if validated is not None:
        return validated * (1 + shapes.rows["train"] // shapes.users)
    return sum(shapes.rows.values()) + (learned_rows(shapes, train) if train.refit else 0)


def step(shapes: Shapes, model: Model, train: Train) -> dict[str, int]:
    """Return what one training step holds, bytes: the towers' activations and the softmax."""
    moved = step_traffic(shapes, model, train)
    if not train.objective.is_blockwise or train.tasks or train.distillation:
        return moved
    softmax = 2 * FLOAT * SOFTMAX_BLOCK  # logits and probabilities
    return {**moved, "softmax": min(moved["softmax"], softmax)}


def step_traffic(shapes: Shapes, model: Model, train: Train) -> dict[str, int]:
    """Return what one training step computes, bytes, whether it is there at once or some rows at a time."""
    batch, embedded, sampled = min(train.batch_size, shapes.rows["train"]), shapes.items, train.objective.candidates
    if isinstance(sampled, Sampled):
        embedded = batch + sampled.uniform + sampled.popularity
    return {
        "query tower": batch * _tower_row(shapes.query, model) * FLOAT,
        "item tower": embedded * _tower_row(shapes.item, model, lengths=shapes.item_lengths) * FLOAT,
        "softmax": logits(shapes, train) * FLOAT * _softmax_copies(train),
    }


def logits(shapes: Shapes, train: Train) -> int:
    """Return how many logits a step has: rows of the batch times the items that compete for each."""
    batch, candidates, sampled = min(train.batch_size, shapes.rows["train"]), shapes.items, train.objective.candidates
    if isinstance(sampled, Sampled):
        candidates = min(batch, sampled.group) + sampled.uniform + sampled.popularity + sampled.cached
    return batch * candidates


def device(shapes: Shapes, model: Model, train: Train) -> dict[str, int]:
    """Return what a GPU would hold, bytes: the code keeps the features of all rows on the device it trains on."""
    host = training(shapes, model, train)
    resident = ("weights", "optimizer (Adam)", "gradients", "teachers")
    streamed = is_streamed(shapes.rows["train"])
    return {
        **{name: host.stays[name] for name in resident if name in host.stays},
        "features of all rows": 0 if streamed else learned_rows(shapes, train) * _trained_row(shapes, train),
        "a step": sum(step_traffic(shapes, model, train).values()),  # a GPU takes all rows at once
    }


def _choosing_blend(shapes: Shapes, model: Model) -> int:
    """Return what the scores of validation queries take: the towers', what may be blended, and a mixture's."""
    if model.blend is None:
        return 0
    queries = min(shapes.rows["valid"], max(1, BLEND_SCORES // shapes.items))
    rank = factor_width(model, shapes.users, shapes.items)
    kept = sum(min(KEPT, len(tried(kind, shapes.rows["train"], rank))) for kind in KINDS)
    return (1 + kept + 2) * FLOAT * queries * shapes.items


def serving(shapes: Shapes, model: Model, index_bytes: int, instances: int = 1) -> dict[str, int]:
    """Return what the processes of a server hold, bytes, besides their base.

    Item vectors, ids and histories are memory-mapped: the processes of a machine share them.
    """
    factors = factor_width(model, shapes.users, shapes.items)
    width = model.tower[-1] + factors
    query = sum(parameters(shapes.query, shapes.item, model)["query"].values()) + frozen(shapes.query, model, factors)
    known = shapes.rows["train"] + shapes.rows["valid"]
    return {
        "query tower": 2 * FLOAT * query * instances,  # the graph, and what onnxruntime makes of it
        "item vectors": FLOAT * shapes.items * width,
        "index": index_bytes * instances,
        "histories": known * (FLOAT + CODE) + CODE * shapes.users,
        "users and items by id": 16 * (shapes.users + shapes.items) * instances,
    }


def disk(shapes: Shapes, model: Model, train: Train, index_bytes: int) -> dict[str, int]:
    """Return what a run takes on disk, bytes, without compression."""
    factors = factor_width(model, shapes.users, shapes.items)
    numbers = total(parameters(shapes.query, shapes.item, model), model) + frozen(shapes.specs, model, factors)
    rows = sum(shapes.rows.values())
    vectors = FLOAT * shapes.items * (model.tower[-1] + factors)
    release = FLOAT * numbers + vectors + index_bytes + rows * (FLOAT + CODE)
    streamed = is_streamed(shapes.rows["train"])
    shuffled = shapes.rows["train"] + train.refit * learned_rows(shapes, train)  # the search's and the retraining's
    return {
        "tables": rows * 28,
        "features": rows * (STORED_ROW + _row_bytes(shapes.query, history=False)),
        "rows shuffled for training": streamed
        * shuffled
        * (_row_bytes(shapes.query, history=False) // 2 + STREAMED_ROW),
        "towers": (1 + (1 + train.refit) * 3) * FLOAT * numbers + vectors,
        "release": release,
        "Triton repository": release,
    }


def towers_alive(train: Train) -> int:
    """Return how many models there are at the end of the training: the search's, and those retrained."""
    if not train.refit:
        return 1
    return 1 + max(1, train.distillation.generations if train.distillation else 0)


def dense_numbers(shapes: Shapes, model: Model, train: Train) -> int:
    """Return how many numbers have a gradient of their size: all but those of tables that are updated sparsely, where a
    batch looks up a part of them."""
    looked_up = (shapes.query, shapes.item) if isinstance(train.objective.candidates, Sampled) else (shapes.query,)
    sparse = sum(rows * width for specs in looked_up for rows, width in _large_tables(specs, model, train))
    return total(parameters(shapes.query, shapes.item, model), model) - sparse


def _moments(shapes: Shapes, model: Model, train: Train) -> int:
    """Return how many moments there are: two for each number, but in large tables the second is one for each row."""
    large = [table for specs in (shapes.query, shapes.item) for table in _large_tables(specs, model, train)]
    saved = sum(rows * (width - 1) for rows, width in large)
    return 2 * total(parameters(shapes.query, shapes.item, model), model) - saved


def _large_tables(specs: tuple[FeatureSpec, ...], model: Model, train: Train) -> list[tuple[int, int]]:
    """Return rows and width of the tables that are updated sparsely."""
    large = [spec for spec in specs if spec.trainable and spec.cardinality >= train.lazy_rows]
    return [*{table_name(spec): (spec.cardinality, table_width(spec, model)) for spec in large}.values()]


def _has_history(shapes: Shapes) -> bool:
    return any(spec.kind == "sequence" for spec in shapes.query)


def _trained_row(shapes: Shapes, train: Train) -> int:
    owned = OWNED_ROW * train.asks_who_has_what
    return _row_bytes(shapes.query, history=False) + HISTORY_ROW * _has_history(shapes) + LABELS_ROW + owned


def _row_bytes(specs: tuple[FeatureSpec, ...], history: bool = True) -> int:
    size = 0
    for spec in specs:
        if spec.kind == "sequence":
            size += (CODE + FLOAT) * spec.max_length * history
        elif spec.kind == "weighted-list":
            size += (CODE + FLOAT) * spec.max_length
        else:
            size += (FLOAT if spec.dtype == "float32" else CODE) * max(1, spec.max_length)
    return size


def _tower_row(
    specs: tuple[FeatureSpec, ...],
    model: Model,
    copies: int = FORWARD_AND_BACK,
    lengths: Mapping[str, int] | None = None,
) -> int:
    """Return how many float32 numbers a tower holds for one row: what is gathered, concatenated and made of it."""
    gathered = 0
    for spec in specs:
        if spec.kind in ("list", "weighted-list", "sequence"):
            length = (lengths or {}).get(spec.name, spec.max_length)
            gathered += length * table_width(spec, model)
    width = sum(input_width(spec, model) for spec in specs) + (model.tower[-1] if model.augmentation else 0)
    dense = 2 * width + 2 * sum(model.tower)
    if model.cross:
        dense += 2 * model.cross.layers * width  # in both towers, though the recipe may want them in one
    return copies * (gathered + dense)


def _softmax_copies(train: Train) -> int:
    """Return how many arrays as large as the logits a step holds (`models.training.losses.objective`)."""
    copies = 4  # logits, shifted exponentials, softmax, gradient
    if train.asks_who_has_what:
        copies += 3  # who has what, as numbers and as the handicap, and logits with it
    if train.objective.label_smoothing:
        copies += 2
    if teaches_search(train) or _generations(train):
        copies += 4  # the teacher's logits and softmax, times ours, and their gradient
    return copies


def teaches_search(train: Train) -> bool:
    """Return whether peers teach while the best epoch is searched."""
    return train.distillation is not None and not train.distillation.generations


def _generations(train: Train) -> int:
    return train.distillation.generations if train.distillation else 0


def _peers(distillation: Distillation | None) -> tuple[Any, ...]:
    return distillation.peers if distillation else ()


def _teachers(shapes: Shapes, model: Model, train: Train, rows: int) -> int:
    peers = shapes.users * shapes.items * FLOAT if _peers(train.distillation) else 0
    if teaches_search(train) and train.refit:
        peers *= 2  # the search's table is alive while the next is made
    return peers + (rows + shapes.items) * model.tower[-1] * FLOAT * _generations(train)


def _fitting_peers(shapes: Shapes, train: Train) -> int:
    """Return what fitting takes beyond the table that it leaves: two more of it, and what each peer holds."""
    peers = _peers(train.distillation)
    if not peers:
        return 0
    table, pairs = shapes.users * shapes.items * FLOAT, shapes.items**2
    own = [
        24 * pairs if type(peer).__name__ == "Ease" else FLOAT * peer.factors * (shapes.users + shapes.items)
        for peer in peers
    ]
    return 2 * table + max(own)
