"""How many numbers a recipe trains: by embedding table and layer, exactly as `models.towers.two_tower` builds them."""

from __future__ import annotations

from collections.abc import Sequence

from models.config import Model, Side
from workflows.columns import Columns
from workflows.features.plan import FIRST_ITEM, FeatureSpec

LAYERS = "layers"


def parameters(query: Sequence[FeatureSpec], item: Sequence[FeatureSpec], model: Model) -> dict[str, dict[str, int]]:
    """Return the trainable numbers of each tower, `query` and `item`, by table, and those of its `layers`."""
    return {"query": _tower(query, "query", model), "item": _tower(item, "item", model)}


def total(counts: dict[str, dict[str, int]], model: Model) -> int:
    """Return how many numbers are trained in all."""
    return sum(sum(tower.values()) for tower in counts.values()) + model.learn_temperature


def table_width(spec: FeatureSpec, model: Model) -> int:
    """Return the width of a feature's embedding table: small vocabularies get narrower ones."""
    return spec.pretrained or min(model.embedding_dim, 8 * -(-spec.cardinality // 8))


def table_name(spec: FeatureSpec) -> str:
    """Return the name of a feature's table: its vocabulary's, or its own."""
    return f"{spec.table}.shared" if spec.table else spec.name


def input_width(spec: FeatureSpec, model: Model) -> int:
    """Return how many numbers a feature gives the tower's first layer."""
    if spec.kind == "continuous":
        return 1
    if spec.kind == "vector":
        return spec.max_length
    pooled = 1 + len(model.history_decay_seconds) if spec.kind == "sequence" else 1
    return pooled * table_width(spec, model)


def frozen(specs: Sequence[FeatureSpec], model: Model, factors: int) -> int:
    """Return how many numbers are kept as they are: pre-trained tables, and a blend's `factors` of a user or item."""
    tables = {table_name(spec): spec.cardinality * table_width(spec, model) for spec in specs if not spec.trainable}
    ids = [
        spec.cardinality for spec in specs if spec.kind == "categorical" and spec.source in (Columns.User, Columns.Item)
    ]
    return sum(tables.values()) + factors * sum(ids)


def factor_width(model: Model, users: int, items: int) -> int:
    """Return how many numbers a blend adds to a vector at most, 0 without one."""
    return model.blend.width(users + FIRST_ITEM, items + FIRST_ITEM) if model.blend else 0


def _tower(specs: Sequence[FeatureSpec], side: Side, model: Model) -> dict[str, int]:
    counts = {
        table_name(spec): spec.cardinality * table_width(spec, model)
        for spec in specs
        if spec.cardinality and spec.trainable
    }
    decays = sum(len(model.history_decay_seconds) for spec in specs if spec.kind == "sequence")
    width = sum(input_width(spec, model) for spec in specs)
    for spec in specs:
        if model.augmentation and spec.name == getattr(model.augmentation, side):
            counts[f"{spec.name}_augmented"] = spec.cardinality * model.tower[-1]
            width += model.tower[-1]
    return {**counts, LAYERS: _layers(width, side, model) + _gates(len(specs), side, model) + decays}


def _layers(width: int, side: Side, model: Model) -> int:
    """Return the numbers of the layers between a tower's inputs, of this width, and its vector."""
    cross = model.cross if model.cross and side in model.cross.towers else None
    crossed = cross.layers * (width * (2 * cross.rank if cross.rank else width) + width) if cross else 0
    beside = width if cross and cross.structure == "parallel" else 0
    dense = 0
    for layer in model.tower[:-1]:
        dense += width * layer + layer
        width = layer
    return crossed + dense + (width + beside) * model.tower[-1] + model.tower[-1]


def _gates(fields: int, side: Side, model: Model) -> int:
    if model.gates is None or side not in model.gates.towers:
        return 0
    return 2 * fields * max(1, fields // model.gates.reduction)
