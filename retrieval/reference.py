"""The query vectors as the training side computes them: NVTabular, then TensorFlow. What a release must reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Reference = Callable[[pd.DataFrame], np.ndarray]


def training_side(recipe: Recipe, features_dir: Path, towers_dir: Path) -> Reference:
    """Return what computes query vectors, float32 [n, d], of raw query columns: the fitted workflow, then the model."""
    import tensorflow as tf

    from models.validation import encode_queries

    fitted = _fitted_queries(recipe, features_dir)
    model = _trained_model(recipe, features_dir, towers_dir)

    def vectors(queries: pd.DataFrame) -> np.ndarray:
        features = {name: tf.convert_to_tensor(values) for name, values in fitted.transform(queries).items()}
        return encode_queries(model, features)

    return vectors


def _fitted_queries(recipe: Recipe, features_dir: Path) -> Any:
    from nvtabular import Workflow

    from workflows.fitting import FittedSide
    from workflows.graph import wants_gpu
    from workflows.inputs import Input, plan

    stated = json.loads((features_dir / "query_transform" / "transform.json").read_text(encoding="utf-8"))["inputs"]
    inputs = [Input(one["name"], one["dtype"], one["list"]) for one in stated]
    workflow = Workflow.load(str(features_dir / "query_workflow"))
    return FittedSide(plan(recipe.query, "query.features"), inputs, workflow, wants_gpu(recipe.device))


def _trained_model(recipe: Recipe, features_dir: Path, towers_dir: Path) -> Any:
    from models.towers import TwoTowerModel
    from workflows import features

    data = features.load(features_dir)
    model = TwoTowerModel(data.query_specs, data.item_specs, data.items, recipe.model)
    checkpoint = towers_dir / "checkpoints" / ("refit" if recipe.train.refit else "best")
    model.load_weights(checkpoint).expect_partial()
    return model
