"""Simple models beside the towers: factors give their scores, and what is exported is what validation chose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from models.baselines import factors
from models.baselines import task as task_module
from models.baselines.als import Als
from models.baselines.ease import Ease
from models.baselines.factors import Blended, factors_of, product_of
from models.baselines.item_knn import ItemKnn, RecentItemKnn
from models.baselines.random_walk import RandomWalk
from models.baselines.svd import Svd
from models.baselines.task import count_later
from models.config import Blend, Ignored, Model, Train
from models.data import join, with_history
from models.metrics import Float32Array
from models.towers.blending import BlendedTowers
from models.towers.onnx import run_tower
from models.towers.two_tower import TwoTowerModel
from models.training import blending, mixing
from models.training.early_stopping import encode_items
from models.training.mixing import Board, mix
from models.training.stage import train
from retrieval.recipes.recipe import parse_recipe
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


def later(table: csr_matrix) -> csr_matrix | None:
    users, items = (indices.astype(np.int64) for indices in table.nonzero())
    return count_later(users, items, np.random.default_rng(3).permutation(len(users)), table.shape)


@pytest.mark.parametrize(
    "peer", [Ease(20), ItemKnn(8, 3, 0.5), RecentItemKnn(8, 3, 0, 0.7), RandomWalk(8), Svd(8), Als(8, 1, 2, 0.5)]
)
def test_factors_of_one_model_give_its_scores_up_to_one_scale(peer: Blended) -> None:
    pytest.importorskip("implicit")
    table = interactions()
    known = np.flatnonzero(np.diff(table.indptr))
    factored = factors_of([(0.5, product_of(peer, table, later(table)))], table, ITEMS)
    actual, expected = (factored.users @ factored.items.T)[known], peer.fit(table, later(table))(known)
    np.testing.assert_allclose(actual / actual.std(), expected / expected.std(), atol=1e-3)


def test_factors_of_factors_lie_side_by_side() -> None:
    table = interactions()
    products = [(1.0, product_of(Svd(3), table)), (0.3, product_of(Svd(4), table))]
    known, every = np.flatnonzero(np.diff(table.indptr)), np.arange(ITEMS)
    joined = factors_of(products, table, ITEMS)
    assert joined.users.shape == (USERS, 7)
    expected = sum(weight * product.scores(known, every) for weight, product in products)
    np.testing.assert_allclose(joined.users[known] @ joined.items.T, expected, atol=1e-5)
    assert factors_of(products, table, 5).users.shape == (USERS, 5)


@pytest.mark.parametrize("wide", [False, True])
def test_factors_of_several_models_add_up_exactly_where_the_rank_allows_it(wide: bool) -> None:
    table = interactions().T.tocsr() if wide else interactions()
    products = [(1.0, product_of(Ease(20), table)), (0.3, product_of(ItemKnn(8, 3), table))]
    known = np.flatnonzero(np.diff(table.indptr))
    every = np.arange(table.shape[1])
    expected = sum(weight * product.scores(known, every) for weight, product in products)
    factored = factors_of(products, table, ITEMS)
    np.testing.assert_allclose((factored.users @ factored.items.T)[known], expected, atol=1e-4)


def test_factors_of_too_small_a_rank_keep_what_a_user_is_answered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here places around a lake, where people stay near their own, and some that everybody goes to."""
    random, users, items = np.random.default_rng(0), 300, 1200
    distance = np.abs((np.arange(items) - random.integers(0, items, (users, 1)) + items // 2) % items - items // 2)
    likes = (distance < 20) | (random.permutation(items) < 60)
    table = csr_matrix((likes & (random.random(likes.shape) < 0.2)).astype(np.float32))
    products = [(1.0, product_of(ItemKnn(50, 3, 0.5), table)), (0.3, product_of(Svd(40), table))]
    every = np.arange(items)
    exact = sum(weight * product.scores(np.arange(users), every) for weight, product in products)

    def wrong() -> float:
        factored = factors_of(products, table, 60)
        answers = zip(_first(exact, table), _first(factored.users @ factored.items.T, table), strict=True)
        return float(np.mean([len(set(answer) - set(right)) for right, answer in answers]))

    emphasised = wrong()
    monkeypatch.setattr(factors, "_MOST_PAIRS", 0)
    assert emphasised < 0.7 * wrong()


def _first(scores: Float32Array, table: csr_matrix) -> np.ndarray:
    scores[table.nonzero()] = -np.inf
    return np.argsort(-scores, axis=1)[:, :10]


def test_who_has_nothing_is_given_what_most_have() -> None:
    table = interactions()
    factored = factors_of([(1.0, product_of(Ease(20), table))], table, ITEMS)
    np.testing.assert_allclose(factored.users[5], np.delete(factored.users, 5, axis=0).mean(axis=0), rtol=1e-4)


def built(place: Path) -> features.FeatureSet:
    users, items = (indices.astype(np.int64) for indices in interactions().nonzero())
    order = np.random.default_rng(1).permutation(len(users))
    rows = {"user_id": users[order], "item_id": items[order], "rating": np.ones(len(users), np.float32)}
    tables = Tables(
        interactions=pd.DataFrame({**rows, "timestamp": 0}),
        users=pd.DataFrame({"user_id": np.arange(USERS)}),
        items=pd.DataFrame({"item_id": np.arange(ITEMS), "title": [f"item {i}" for i in range(ITEMS)]}),
    )
    sides = FeatureSide(features={"user_id": Categorical()}), FeatureSide(features={"item_id": Categorical()})
    features.build(tables, *sides, RandomSplit(test=0.2, validation=0.2), "cpu", place)
    return features.load(place)


def scores(data: features.FeatureSet, towers: Path) -> Float32Array:
    test = with_history(data.test, data.query_specs, join([data.train, data.valid]).interactions)
    return run_tower(towers / "query.onnx", test.query) @ np.load(towers / "item_vectors.npy").T


@pytest.mark.parametrize("refit", [True, False])
def test_a_blend_that_falls_to_one_model_ranks_as_this_model_does(
    tmp_path: Path, refit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The towers are trained at no rate, so that they are worse; the exported graphs answer as EASE alone does."""
    peer = Ease(20)
    monkeypatch.setattr(blending, "KINDS", {"EASE": [peer]})
    monkeypatch.setitem(factors.KINDS, "EASE", [peer])
    monkeypatch.setattr(mixing, "ROUNDS", 0)
    data, model = built(tmp_path / "f"), Model(tower=(8,), embedding_dim=8, blend=Blend())
    lines: list[str] = []
    train(data, model, Train(epochs=1, refit=refit, learning_rate=1e-9), 0, "cpu", tmp_path / "t", lines.append)
    chosen = json.loads((tmp_path / "t" / "blend.json").read_text())
    assert (chosen["share"], [entry["kind"] for entry in chosen["models"]]) == (0.0, ["EASE"])
    assert max(chosen["validation"].values()) == chosen["validation"]["EASE (l2 20, most_items 16000) alone"]
    assert not [line for line in lines if "retraining" in line], "of towers that nothing is served of"
    whole, searched = task_module.test_task(data, Ignored(), dated=False), task_module.validation_task(data, Ignored())
    task = whole if refit else searched
    users = pd.Index(data.users["user_id"]).get_indexer(data.test.interactions["user_id"])
    had = np.diff(task.interactions.indptr)[users] > 0
    expected, actual = task.fit(peer)(users), scores(data, tmp_path / "t")
    np.testing.assert_allclose(actual[had] / actual[had].std(), expected[had] / expected[had].std(), atol=1e-3)


def test_what_is_served_is_no_wider_than_the_towers_and_the_models_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And towers that are opened again have the same vectors."""
    monkeypatch.setattr(blending, "KINDS", {"SVD": [Svd(3), Svd(4)]})
    monkeypatch.setattr(blending, "tried", lambda kind, interactions, rank: blending.KINDS[kind])
    monkeypatch.setattr(blending, "mix", lambda members, board: (dict.fromkeys(members, 1.0), {}))
    data, model = built(tmp_path / "f"), Model(tower=(8,), embedding_dim=8, blend=Blend())
    train(data, model, Train(epochs=1, refit=False), 0, "cpu", tmp_path / "t", lambda _: None)
    vectors = np.load(tmp_path / "t" / "item_vectors.npy")
    assert vectors.shape == (ITEMS, 8 + 3 + 4)
    tower = TwoTowerModel(data.query_specs, data.item_specs, data.items, model)
    tower.load_weights(tmp_path / "t" / "checkpoints" / "best").expect_partial()
    opened = BlendedTowers.load(tower, tmp_path / "t")
    assert opened is not None
    np.testing.assert_allclose(encode_items(opened), vectors, atol=1e-5)


def test_models_that_are_wrong_in_different_ways_are_blended() -> None:
    """Each of two models finds one half of the rows at once and is no help with the other half."""
    random, rows = np.random.default_rng(0), 400
    targets, query = random.integers(0, 50, rows), np.arange(rows)
    truth = np.zeros((rows, 50), np.float32)
    truth[query, targets] = 4
    halves = [
        random.standard_normal((rows, 50)).astype(np.float32) + truth * (query % 2 == side)[:, None] for side in (0, 1)
    ]
    board = Board(query, targets, query, (query[:0], query[:0]), halves[0], 1.0, "unseen.ndcg@50")
    weights, figures = mix({"towers": halves[0], "EASE": halves[1]}, board)
    assert set(weights) == {"towers", "EASE"}
    assert figures["blend"] > max(figures["towers alone"], figures["EASE alone"])


def test_what_is_tried_has_no_more_factors_than_may_be_served() -> None:
    assert [peer.settings()["factors"] for peer in factors.tried("SVD", 1000, 200)] == [200, 128, 64, 32]
    assert factors.tried("ALS", factors.MANY, 32) == [Als(32, 100, 40, 0.5), Als(32, 200, 80, 0.5)]
    assert factors.tried("item KNN", 1000, 1) == factors.KINDS["item KNN"]


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
