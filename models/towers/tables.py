"""Embedding tables as arrays beside a tower's graph, which takes them as inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import tensorflow as tf

from models.towers.blending import WithFactors

LEAST_BYTES: Final = 1 << 20
"""Tables of so many bytes or more lie beside the graph, where processes share them and none is too large. Smaller ones
are not worth the microsecond that an input costs every call."""


class Table(NamedTuple):
    """A layer, and its attribute that holds a table: a variable, float32 `[values, width]`."""

    layer: Any
    attribute: str

    @property
    def variable(self) -> tf.Variable:
        """Return the table."""
        return vars(self.layer)[self.attribute]


def large_tables(tower: Any) -> dict[str, Table]:
    """Return the tables of a tower that lie beside its graph, by name."""
    encoder = tower.tower if isinstance(tower, WithFactors) else tower
    embeddings = encoder.blocks[0]
    tables = {name: Table(layer, "embeddings") for name, layer in embeddings.tables.items()}
    if embeddings.augmented:
        tables[f"{embeddings.augmented.feature}.augmented"] = Table(embeddings.augmented, "embeddings")
    if isinstance(tower, WithFactors):
        tables[f"{tower.spec.name}.factors"] = Table(tower, "factors")
    return {name: table for name, table in tables.items() if _bytes(table.variable) >= LEAST_BYTES}


@contextmanager
def replaced(tables: Sequence[Table], tensors: Sequence[tf.Tensor]) -> Iterator[None]:
    """Have layers look up in tensors, inside the block, instead of in their own tables."""
    variables = [table.variable for table in tables]
    # Past Keras' own __setattr__, which would track what is set as a weight of the layer.
    for table, tensor in zip(tables, tensors, strict=True):
        vars(table.layer)[table.attribute] = tensor
    try:
        yield
    finally:
        for table, variable in zip(tables, variables, strict=True):
            vars(table.layer)[table.attribute] = variable


def _bytes(variable: tf.Variable) -> int:
    return int(variable.shape.num_elements()) * int(variable.dtype.size)
