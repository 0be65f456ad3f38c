"""Trained towers to ONNX, checked against TensorFlow on real rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import tensorflow as tf
import tf2onnx

from models.data import first_rows, with_history
from models.metrics import Float32Array
from models.towers.blending import BlendedTowers
from models.towers.onnx import TABLE, pairing_of, run_tower, table_file
from models.towers.tables import large_tables, replaced
from models.towers.two_tower import TwoTowerModel, input_names
from models.training.early_stopping import encode_items, encode_queries
from workflows.errors import DivergedError, StageError
from workflows.features.stage import FeatureSet, FeatureSpec
from workflows.files import json_bytes

OPSET = 15
TOLERANCE = 1e-5
"""Of the largest number in a vector, or of 1 where that is larger."""
COMPARED_AT_ONCE = 65_536
CHECKED_ROWS = 1000
"""Test rows that exported towers are compared on."""


def export_towers(model: TwoTowerModel | BlendedTowers, data: FeatureSet, epochs: int, out: Path) -> None:
    """Write `query.onnx`, `item.onnx`, their large tables, `item_vectors.npy` and `towers.json` to `out`.

    Raises
    ------
    DivergedError
        A vector is not finite.
    StageError
        An exported tower does not give TensorFlow's vectors on real rows.
    """
    out.mkdir(parents=True, exist_ok=True)
    convert(model.query_encoder, data.query_specs, out / "query.onnx")
    convert(model.candidate_encoder, data.item_specs, out / "item.onnx")
    rows = with_history(first_rows(data.test, CHECKED_ROWS), data.query_specs, data.train.interactions).query
    _check("query", encode_queries(model, rows), run_tower(out / "query.onnx", rows))
    vectors = run_tower(out / "item.onnx", data.items)
    _check("item", encode_items(model), vectors)
    np.save(out / "item_vectors.npy", vectors)
    description = {
        "format": 1,
        "pairing": pairing_of(out),
        "dim": vectors.shape[1],
        "metric": "inner_product",
        "query_inputs": msgspec.to_builtins(data.query_specs),
        "item_inputs": msgspec.to_builtins(data.item_specs),
        "epochs": epochs,
        "parameters": sum(int(variable.shape.num_elements()) for variable in model.trainable_variables),
    }
    (out / "towers.json").write_bytes(json_bytes(description))


def convert(tower: tf.keras.layers.Layer, specs: Sequence[FeatureSpec], path: Path) -> None:
    """Write a tower as ONNX, and in a folder beside it its large tables: a graph holds no more than protobuf's 2 GB."""
    tensors, tables = [tensor for spec in specs for tensor in tensors_of(spec)], large_tables(tower)
    layers = list(tables.values())
    # Their first dimension is not that of the rows, and stays in the graph: a table of another size is refused.
    inputs = [tf.TensorSpec(stored.variable.shape, tf.float32, TABLE + name) for name, stored in tables.items()]
    signature = [*tensors, *inputs]

    @tf.function(input_signature=signature, autograph=False)
    def encode(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {tensor.name: value for tensor, value in zip(tensors, values, strict=False)}
        with replaced(layers, values[len(tensors) :]):
            return {"vector": tower(features, training=False)}

    tf2onnx.convert.from_function(encode, input_signature=signature, opset=OPSET, output_path=str(path))
    for tensor, table in zip(inputs, layers, strict=True):
        place = table_file(path, tensor.name)
        place.parent.mkdir(exist_ok=True)
        np.save(place, table.variable.numpy())


def tensors_of(spec: FeatureSpec) -> list[tf.TensorSpec]:
    """Return what a tower takes of a feature: `[n]`, lists `[n, any]`, vectors `[n, width]`."""
    width = spec.max_length if spec.kind == "vector" else None  # what is not summed over must be known
    shape = [None, width] if spec.max_length else [None]
    first, *more = input_names(spec)
    return [
        tf.TensorSpec(shape, spec.dtype, name=first),
        *(tf.TensorSpec(shape, tf.float32, name=name) for name in more),
    ]


def _check(side: str, expected: Float32Array, exported: Float32Array) -> None:
    worst = largest = np.float32(0)
    for start in range(0, len(expected), COMPARED_AT_ONCE):
        part = slice(start, start + COMPARED_AT_ONCE)
        finite = np.isfinite(expected[part]).all(axis=1)
        if side == "item" and not finite.all():
            raise DivergedError(
                f"the vector of item {start + int(finite.argmin())} is not finite: the towers were not kept; lower "
                "train.learning_rate, or clip its numbers"
            )
        # A test row without a finite vector is not found; where TensorFlow has one, ONNX must have the same.
        rows = expected[part][finite]
        worst = np.maximum(worst, np.abs(rows - exported[part][finite]).max(initial=0.0))  # NaN stays
        largest = np.maximum(largest, np.abs(rows).max(initial=0.0))
    worst = worst / max(1.0, float(largest))
    if not worst <= TOLERANCE:
        raise StageError(
            f"{side}.onnx differs from TensorFlow by {worst:.2g}, more than {TOLERANCE}; the export was not kept. "
            "Report it with the recipe and the versions that `pip freeze` prints"
        )
