"""How many numbers a recipe trains: by embedding table and layer, exactly as `models.towers` builds them."""

from __future__ import annotations

from collections.abc import Sequence

from models.config import Model
from workflows.inputs import FeatureSpec

LAYERS = "layers"


def parameters(query: Sequence[FeatureSpec], item: Sequence[FeatureSpec], model: Model) -> dict[str, dict[str, int]]:
    """Return the trainable numbers of each tower, `query` and `item`, by table, and those of its `layers`."""
    return {side: _tower(specs, model) for side, specs in (("query", query), ("item", item))}


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


def frozen(specs: Sequence[FeatureSpec], model: Model) -> int:
    """Return how many numbers of pre-trained tables are kept as they are."""
    tables = {table_name(spec): spec.cardinality * table_width(spec, model) for spec in specs if not spec.trainable}
    return sum(tables.values())


def _tower(specs: Sequence[FeatureSpec], model: Model) -> dict[str, int]:
    counts = {
        table_name(spec): spec.cardinality * table_width(spec, model)
        for spec in specs
        if spec.cardinality and spec.trainable
    }
    decays = sum(len(model.history_decay_seconds) for spec in specs if spec.kind == "sequence")
    width, dense = sum(input_width(spec, model) for spec in specs), 0
    for layer in model.tower:
        dense += width * layer + layer
        width = layer
    return {**counts, LAYERS: dense + decays}
