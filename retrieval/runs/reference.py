"""The query vectors as the training side computes them: NVTabular, then TensorFlow. What a release must reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.recipes.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Reference = Callable[[pd.DataFrame], np.ndarray]
    RankingReference = Callable[[pd.DataFrame, np.ndarray], np.ndarray]


def training_side(recipe: Recipe, features_dir: Path, towers_dir: Path) -> Reference:
    """Return what computes query vectors, float32 [n, d], of raw query columns: the fitted workflow, then the model."""
    from models.training.early_stopping import encode_queries

    made, model = _features_made(recipe, features_dir), trained_model(recipe, features_dir, towers_dir)
    return lambda queries: encode_queries(model, made(queries))


def ranking_side(recipe: Recipe, features_dir: Path, towers_dir: Path, ranker_dir: Path) -> RankingReference | None:
    """Return what computes a ranker's scores, float32 [n, m], of raw query columns and items, int64 [n, m]; None where
    the recipe has no ranker."""
    if recipe.ranking is None:
        return None
    import tensorflow as tf

    from models.ranking.stage import trained_ranker
    from models.training.early_stopping import encode_queries
    from workflows.features import stage as features

    made, towers = _features_made(recipe, features_dir), trained_model(recipe, features_dir, towers_dir)
    ranker = trained_ranker(features.load(features_dir), towers_dir, ranker_dir, recipe.ranking, recipe.model)
    sides = ranker.catalogue_sides()

    def scores(queries: pd.DataFrame, items: np.ndarray) -> np.ndarray:
        rows = made(queries)
        vectors = tf.convert_to_tensor(encode_queries(towers, rows))
        scored: np.ndarray = ranker.scores(rows, vectors, tf.gather(sides, tf.convert_to_tensor(items))).numpy()
        return scored

    return scores


def _features_made(recipe: Recipe, features_dir: Path) -> Callable[[pd.DataFrame], dict[str, Any]]:
    """Return what makes tensors of raw query columns: the fitted workflow, and histories from the training and
    validation rows, which a release knows."""
    import tensorflow as tf

    from models.data import known_rows, load_tested
    from workflows.features.history import history_features, sequence_spec

    data, fitted = load_tested(features_dir), fitted_queries(recipe, features_dir)
    spec, known = sequence_spec(data.query_specs), known_rows(data)

    def made(queries: pd.DataFrame) -> dict[str, Any]:
        histories = {} if spec is None else history_features(spec, queries, known, own=False)
        return {
            name: tf.convert_to_tensor(values) for name, values in {**fitted.transform(queries), **histories}.items()
        }

    return made


def fitted_queries(recipe: Recipe, features_dir: Path) -> Any:
    """Return the query side as it was fitted, a `workflows.fitting.fit.FittedSide`."""
    from nvtabular import Workflow

    from workflows.features.canonical import Input
    from workflows.features.plan import plan
    from workflows.features.workflow import wants_gpu
    from workflows.fitting.fit import FittedSide

    stated = json.loads((features_dir / "query_transform" / "transform.json").read_text(encoding="utf-8"))["inputs"]
    inputs = [Input(column["name"], column["dtype"], column["list"]) for column in stated]
    workflow = Workflow.load(str(features_dir / "query_workflow"))
    return FittedSide(plan(recipe.query, "query.features"), inputs, workflow, wants_gpu(recipe.device))


def trained_model(recipe: Recipe, features_dir: Path, towers_dir: Path) -> Any:
    """Return the towers that were exported, a `models.towers.two_tower.TwoTowerModel` or `BlendedTowers` around one."""
    from models.towers.blending import BlendedTowers
    from models.towers.two_tower import TwoTowerModel
    from workflows.features import stage as features

    data = features.load(features_dir)
    model = TwoTowerModel(data.query_specs, data.item_specs, data.items, recipe.model)
    checkpoint = towers_dir / "checkpoints" / ("refit" if recipe.train.refit else "best")
    model.load_weights(checkpoint).expect_partial()
    return BlendedTowers.load(model, towers_dir) or model
