"""A trained ranker to ONNX and the sides of all items, checked against TensorFlow on real rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import tensorflow as tf
import tf2onnx

from models.metrics import Float32Array
from models.ranking.model import RankingModel
from models.training.export import OPSET, TOLERANCE, tensors_of
from workflows.errors import StageError
from workflows.files import json_bytes

RANKER, SIDES, PARAMETERS = "ranker.onnx", "items.npy", "params.json"
QUERY_VECTOR, ITEM_SIDES = "ranking_vector", "ranking_items"
"""Inputs of the graph besides the query's features: float32 `[n, dim]` and `[n, m, width]`."""


def export_ranker(
    model: RankingModel,
    features: Mapping[str, np.ndarray],
    vectors: Float32Array,
    candidates: npt.NDArray[np.int32],
    facts: Mapping[str, Any],
    out: Path,
) -> None:
    """Write `ranker.onnx`, `items.npy` and `params.json` to `out`; `facts` go to the last.

    The rows of features, vectors float32 `[n, dim]` and candidates `[n, m]` are those that it is checked on.

    Raises
    ------
    StageError
        The graph does not give TensorFlow's scores.
    """
    sides = model.catalogue_sides().numpy()
    _convert(model, sides.shape[1], out / RANKER)
    np.save(out / SIDES, sides)
    rows = {name: tf.convert_to_tensor(values) for name, values in features.items()}
    items = sides[np.maximum(candidates, 0)]
    expected = model.scores(rows, tf.convert_to_tensor(vectors), tf.convert_to_tensor(items)).numpy()
    _check(expected, ExportedRanker(out)(features, vectors, candidates))
    description = {"format": 1, "width": sides.shape[1], "parameters": model.parameters, **facts}
    (out / PARAMETERS).write_bytes(json_bytes(description))


class ExportedRanker:
    """A ranker as it was exported, without TensorFlow."""

    def __init__(self, directory: Path) -> None:
        self._sides = np.load(directory / SIDES, allow_pickle=False)
        content = (directory / RANKER).read_bytes()
        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]

    def __call__(
        self, features: Mapping[str, np.ndarray], vectors: Float32Array, candidates: npt.NDArray[np.int32]
    ) -> Float32Array:
        """Return the scores, float32 `[n, m]`, of candidates, int32 `[n, m]`; whatever it is where there are none."""
        inputs = {**features, QUERY_VECTOR: vectors, ITEM_SIDES: self._sides[np.maximum(candidates, 0)]}
        scores: Float32Array = self._session.run(["score"], {name: inputs[name] for name in self.inputs})[0]
        return scores


def _convert(model: RankingModel, width: int, path: Path) -> None:
    signature = [
        *(tensor for spec in model.sides.query for tensor in tensors_of(spec)),
        tf.TensorSpec([None, model.sides.dim], tf.float32, name=QUERY_VECTOR),
        tf.TensorSpec([None, None, width], tf.float32, name=ITEM_SIDES),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def score(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {tensor.name: value for tensor, value in zip(signature[:-2], values[:-2], strict=True)}
        return {"score": model.scores(features, values[-2], values[-1])}

    tf2onnx.convert.from_function(score, input_signature=signature, opset=OPSET, output_path=str(path))


def _check(expected: Float32Array, exported: Float32Array) -> None:
    worst = float(np.abs(expected - exported).max(initial=0.0) / np.abs(expected).max(initial=1.0))
    if not worst <= TOLERANCE:
        raise StageError(
            f"{RANKER} differs from TensorFlow by {worst:.2g}, more than {TOLERANCE}; the export was not kept. "
            "Report it with the recipe and the versions that `pip freeze` prints"
        )
