"""A simple model beside the towers: its factors give its scores, and what is exported is what validation chose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from models.baselines.als import Als
from models.baselines.ease import Ease
from models.baselines.factors import factors_of
from models.baselines.item_knn import ItemKnn
from models.config import Blend, Model, Train
from models.data import join, with_history
from models.metrics import Float32Array
from models.towers.onnx import run_tower
from models.training.stage import train
from retrieval.runs.recipe import parse_recipe
from tests.tiny import RECIPE
from workflows.config import Categorical, FeatureSide, RandomSplit
from workflows.errors import RecipeError
from workflows.features import stage as features
from workflows.tables.store import Tables

USERS, ITEMS = 60, 24


def interactions() -> csr_matrix:
    """Three tastes of eight items each; a user has most of one, and one user has nothing."""
    random = np.random.default_rng(0)
    likes = (np.arange(USERS)[:, None] % 3 == np.arange(ITEMS) % 3) & (random.random((USERS, ITEMS)) < 0.7)
    likes[5] = False
    return csr_matrix(likes.astype(np.float32))


@pytest.mark.parametrize("peer", [Ease(20), ItemKnn(8, 3), Als(8, 1, 2)])
def test_factors_give_the_scores_of_the_peer_up_to_one_scale(peer: Ease | ItemKnn | Als) -> None:
    pytest.importorskip("implicit")
    table = interactions()
    known = np.flatnonzero(np.diff(table.indptr))
    factors = factors_of(peer, table, ITEMS)
    found, expected = (factors.users @ factors.items.T)[known], peer.fit(table)(known)
    np.testing.assert_allclose(found / found.std(), expected / expected.std(), atol=1e-3)


def test_who_has_nothing_is_given_what_most_have() -> None:
    factors = factors_of(Ease(20), interactions(), ITEMS)
    np.testing.assert_allclose(factors.users[5], np.delete(factors.users, 5, axis=0).mean(axis=0), rtol=1e-4)


def built(place: Path) -> features.FeatureSet:
    users, items = (one.astype(np.int64) for one in interactions().nonzero())
    order = np.random.default_rng(1).permutation(len(users))
    rows = {"user_id": users[order], "item_id": items[order], "rating": np.ones(len(users), np.float32)}
    tables = Tables(
        interactions=pd.DataFrame({**rows, "timestamp": 0}),
        users=pd.DataFrame({"user_id": np.arange(USERS)}),
        items=pd.DataFrame({"item_id": np.arange(ITEMS), "title": [f"item {one}" for one in range(ITEMS)]}),
    )
    sides = FeatureSide(features={"user_id": Categorical()}), FeatureSide(features={"item_id": Categorical()})
    features.build(tables, *sides, RandomSplit(test=0.2, validation=0.2), "cpu", place)
    return features.load(place)


def scores(data: features.FeatureSet, towers: Path) -> Float32Array:
    test = with_history(data.test, data.query_specs, join([data.train, data.valid]).interactions)
    return run_tower(towers / "query.onnx", test.query) @ np.load(towers / "item_vectors.npy").T


@pytest.mark.parametrize("refit", [True, False])
def test_towers_that_learn_nothing_are_exported_as_the_best_simple_model(tmp_path: Path, refit: bool) -> None:
    """Trained at no rate, they can only be worse; what is exported finds the rows as the simple model does."""
    data, model = built(tmp_path / "f"), Model(tower=(8,), embedding_dim=8, blend=Blend(rank=64))
    settings = Train(epochs=1, refit=refit, learning_rate=1e-9)
    lines: list[str] = []
    train(data, model, settings, 0, "cpu", tmp_path / "t", lines.append)
    chosen = json.loads((tmp_path / "t" / "blend.json").read_text())
    tried = chosen["validation"]
    assert chosen["kind"] != "towers"
    assert max(tried.values()) > tried["towers"]
    assert any(line.startswith("blend: ") and "alone" in line for line in lines)
    rows = np.arange(len(data.test.interactions))
    taste = data.test.interactions["user_id"].to_numpy() % 3
    best = scores(data, tmp_path / "t").argmax(axis=1)
    liked = data.catalogue["item_id"].to_numpy()[best] % 3
    known = data.test.interactions["user_id"].isin(data.train.interactions["user_id"]).to_numpy()
    assert (liked == taste)[rows[known]].mean() > 0.95


def recipe(more: str = "", query: str = "user_id") -> str:
    text = RECIPE.replace("user_id = {", f"{query} = {{").replace("[train]", '[train]\npreset = "auto"')
    return text + more


def test_the_preset_blends_unless_the_recipe_says_otherwise_or_ids_are_no_features(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    assert parse_recipe(RECIPE, path).model.blend is None
    assert parse_recipe(recipe(), path).model.blend == Blend()
    assert parse_recipe(recipe("[model.blend]\nrank = 8\n"), path).model.blend == Blend(rank=8)
    assert parse_recipe(recipe(query="occupation"), path).model.blend is None
    assert parse_recipe(recipe('[ranking]\nkind = "inttower"\n'), path).model.blend is None


def test_a_blend_without_ids_or_beside_a_ranker_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="do not go together"):
        parse_recipe(RECIPE + '[model.blend]\n[ranking]\nkind = "inttower"\n', tmp_path / "r.toml")
    data = built(tmp_path / "f")
    bare = data._replace(query_specs=[], item_specs=data.item_specs)
    with pytest.raises(RecipeError, match=r"\[model.blend\] needs the id among \[query.features\]"):
        train(bare, Model(blend=Blend()), Train(epochs=1), 0, "cpu", tmp_path / "t", lambda _: None)
