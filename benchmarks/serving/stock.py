"""The stock merlin-systems ensemble over a run's workflow and tower, the way NVIDIA's retrieval example builds it.

`TransformWorkflow >> PredictTensorflow >> QueryFaiss`, exported by merlin-systems' own runtime
(https://github.com/NVIDIA-Merlin/Merlin, examples/Building-and-deploying-multi-stage-RecSys). One thing differs: the
tower runs in the executor's own process, because the Triton of the nvidia-pytriton wheel has no TensorFlow backend.
That saves stock the call to another model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import tensorflow as tf
from merlin.schema import ColumnSchema
from merlin.systems.dag import Ensemble
from merlin.systems.dag.ops.faiss import QueryFaiss, setup_faiss
from merlin.systems.dag.ops.tensorflow import PredictTensorflow
from merlin.systems.dag.ops.workflow import TransformWorkflow
from nvtabular import Workflow

MODEL = "executor_model"


class TowerInProcess(PredictTensorflow):
    """`PredictTensorflow` that loads its model again where it is unpickled: the stock one comes back without."""

    def load_artifacts(self, artifact_path: str) -> None:
        self.model = tf.saved_model.load(self.path)


def export_stock(run: Any, out: Path, top_k: int) -> Path:
    """Write the stock ensemble of a finished `retrieval.runs.run.Run` as a Triton repository to `out` and return it."""
    out.mkdir(parents=True)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Triton's stub cannot import this module
    workflow = _served(Workflow.load(str(run.directory / "features" / "query_workflow")))
    tower = _save_tower(run, out / "tower")
    graph = workflow.input_schema.column_names >> TransformWorkflow(workflow) >> TowerInProcess(str(tower))
    ensemble = Ensemble(graph >> QueryFaiss(_save_index(run, out / "items.faiss"), topk=top_k), workflow.input_schema)
    ensemble.export(str(out / "repository"))
    return out / "repository"


def requests(run: Any, users: list[Any]) -> dict[str, np.ndarray]:
    """Return the inputs of the users' queries, [n] each: stock knows nothing of a user but what a request carries."""
    table = pd.read_parquet(run.directory / "features" / "users.parquet").set_index("user_id", drop=False)
    rows = table.loc[users]
    columns = Workflow.load(str(run.directory / "features" / "query_workflow")).input_schema.column_names
    return {name: rows[name].to_numpy() for name in columns}


def _served(workflow: Any) -> Any:
    """Name text columns `string`: NVTabular infers `object`, for which Triton has no data type."""
    schema = workflow.graph.input_schema
    for name in schema.column_names:
        if schema[name].dtype.name == "object":
            schema.column_schemas[name] = ColumnSchema(name, dtype="string", dims=(None,))
    return workflow


def _save_tower(run: Any, path: Path) -> Path:
    """Save the query tower alone, as the example does, with one vector as its output."""
    from retrieval.runs.reference import trained_model

    model = trained_model(run.recipe, run.directory / "features", run.directory / "towers")
    tower = model.query_encoder
    specs = {spec.name: tf.TensorSpec([None], spec.dtype, name=spec.name) for spec in tower.blocks[0].specs}
    module = tf.Module()
    module.tower = tower
    module.__call__ = tf.function(lambda inputs: {"vector": tower(inputs, training=False)}, input_signature=[specs])
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return path


def _save_index(run: Any, path: Path) -> Path:
    vectors = np.load(run.directory / "towers" / "item_vectors.npy")
    frame = pd.DataFrame({"item_id": np.arange(len(vectors)), "embedding": list(vectors)})
    setup_faiss(frame, str(path))
    return path
