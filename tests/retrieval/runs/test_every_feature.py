"""One small run with every kind of feature, and towers with every choice that goes together, at once: fitted, trained,
exported, released, answered in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.triton.export import GraphRuntime
from ensemble.triton.operators import build_ensemble, retriever_of
from models.training.stage import train
from retrieval.recipes.recipe import Recipe, parse_recipe
from retrieval.runs.reference import training_side
from tests.exported import made_up_users
from workflows.config import Embedding, FeatureSide
from workflows.errors import DataError, RecipeError
from workflows.features.canonical import describe
from workflows.features.plan import plan
from workflows.features.stage import FeatureSet, build, load
from workflows.tables.store import Tables

USERS, ITEMS, ROWS = 60, 50, 900
RECIPE = """
name = "every-feature"

[data]
source = "movielens"

[query.features]
user_id = [
    { kind = "categorical", hash_buckets = 40 },
    { kind = "aggregate" },
    { kind = "embedding", file = "users.parquet", trainable = true },
]
country = { kind = "categorical", vocabulary = "places" }
visited = { kind = "multi-hot", vocabulary = "places", max_length = 3, keep = "last", padding = "left" }
country_and_age = { kind = "cross", of = ["country", "age"], edges = { age = [30, 50] }, max_size = 5 }
age = [
    { kind = "continuous", clip_min = 18, clip_max = 70, normalise = "min-max" },
    { kind = "bucketized", method = "quantile", buckets = 4 },
    { kind = "bucketized", name = "adult", edges = [18, 65] },
]
registered = { kind = "age", unit = "days", log = true }
likes = { kind = "multi-hot", weights = "how_much", max_length = 4 }
taste = { kind = "embedding" }
timestamp = [{ kind = "time", part = "hour" }, { kind = "time", part = "weekday", cyclic = true }]
history = { kind = "sequence", last = 5, padding = "left" }

[item.features]
item_id = [
    { kind = "categorical", max_size = 30, hash_buckets = 4 },
    { kind = "embedding", file = "items.npy", ids = "item_ids.npy" },
    { kind = "aggregate", statistics = ["count", "recency"] },
]
title = { kind = "text", ngrams = 2, max_tokens = 100 }
genres = { kind = "multi-hot", weights = "strength", max_length = 3, padding = "left" }
price = { kind = "continuous", log = true, fill = 1.0 }
released = [{ kind = "time", part = "month" }, { kind = "age", until = "withdrawn", unit = "years", name = "on_sale" }]
picture = { kind = "embedding" }

[model]
tower = [16, 8]
embedding_dim = 8
cross = { layers = 2, rank = 3 }
gates = {}
augmentation = { query = "user_id_categorical", item = "item_id_categorical", category = "genres" }

[train]
epochs = 1
refit = false
batch_size = 128
"""


class Done(NamedTuple):
    """What the run left behind."""

    recipe: Recipe
    path: Path
    tables: Tables
    data: FeatureSet


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    path = tmp_path_factory.mktemp("every")
    random = np.random.default_rng(0)
    np.save(path / "item_ids.npy", np.arange(5, ITEMS, dtype=np.int64))
    np.save(path / "items.npy", random.normal(size=(ITEMS - 5, 6)).astype(np.float32))
    known = pd.DataFrame({"id": [f"u{i}" for i in range(USERS - 3)]})
    known.assign(vector=list(random.normal(size=(USERS - 3, 4)))).to_parquet(path / "users.parquet")
    recipe, tables = parse_recipe(RECIPE, path / "recipe.toml"), made_up(random)
    build(tables, recipe.query, recipe.item, recipe.data.split, "cpu", path / "features")
    train(load(path / "features"), recipe.model, recipe.train, recipe.seed, "cpu", path / "towers", str)
    training = Training(training_side(recipe, path / "features", path / "towers"))
    write_release(Parts.of(path), training, Settings(recipe.name, "0" * 64, recipe.serving, recipe.index))
    return Done(recipe, path, tables, load(path / "features"))


def made_up(random: np.random.Generator) -> Tables:
    genres = ["war", "love", "sea"]
    users = made_up_users(random, USERS)
    kinds = [random.choice(genres, random.integers(0, 5)).tolist() for _ in range(ITEMS)]
    items = {
        "item_id": np.arange(ITEMS),
        "title": [f"the story of {i % 7} and {i % 3}" for i in range(ITEMS)],
        "genres": kinds,
        "strength": [random.random(len(row)).tolist() for row in kinds],
        "price": random.random(ITEMS) * 100,
        "released": random.integers(1, 10**9, ITEMS).astype(float),
        "withdrawn": [np.nan if i % 3 else 1.2e9 for i in range(ITEMS)],
        "picture": random.normal(size=(ITEMS, 2)).tolist(),
    }
    interactions = {
        "user_id": random.choice(users["user_id"], ROWS),
        "item_id": random.integers(0, ITEMS - 1, ROWS),
        "rating": random.integers(1, 6, ROWS).astype(np.float32),
        "timestamp": random.integers(1_000_000_000, 1_000_400_000, ROWS),
    }
    return Tables(pd.DataFrame(interactions), pd.DataFrame(users), pd.DataFrame(items))


def asked(done: Done, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores that the operators of the server give."""
    release = done.path / "release"
    inputs = [column.name for column in retriever_of(str(release)).inputs]
    frame = pd.DataFrame({name: rows[name].to_numpy() if name in rows else [None] * len(rows) for name in inputs})
    frame["top_k"], frame["include_seen"] = 10, True
    answer = build_ensemble(release).transform(frame, GraphRuntime())
    return np.stack(answer["item_id"].tolist()), np.stack(answer["score"].tolist())


def test_a_release_of_every_kind_answers_as_training_would(done: Done) -> None:
    """`write_release` compared sample queries; here requests bring columns of their own, some of them never seen."""
    rows = done.tables.interactions.iloc[:40].merge(done.tables.users, on="user_id")
    changed = rows.assign(
        country="nowhere", age=99.5, visited=[["日本", "?"]] * len(rows), taste=[[0.5, -1.0, 2.0]] * len(rows)
    )
    stranger = changed.assign(user_id="nobody")
    vectors = np.load(done.path / "towers" / "item_vectors.npy")
    encode = training_side(done.recipe, done.path / "features", done.path / "towers")
    for questions in (rows, changed, stranger):
        ids, scores = asked(done, questions)
        expected = encode(questions) @ vectors.T
        np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], atol=2e-5)
        np.testing.assert_allclose(np.take_along_axis(expected, ids, axis=1), scores, atol=2e-5)


def test_aggregates_know_the_training_rows_and_nothing_else(done: Done) -> None:
    learned, table = done.data.train.interactions, done.data.items["item_id_aggregate"]
    counts = np.bincount(learned["item_index"], minlength=ITEMS)
    last = learned.groupby("item_index")["timestamp"].max().reindex(range(ITEMS)).to_numpy()
    chosen = counts > 0
    assert not chosen.all(), "an item that nobody chose is among them"
    age = np.log1p((np.nanmax(last) - last) / 86_400)
    age[~chosen] = np.nanmax(age)
    for column, values in enumerate((np.log1p(counts), age)):
        expected = (values - values[chosen].mean()) / values[chosen].std()
        np.testing.assert_allclose(table[:, column], expected, rtol=1e-4, atol=1e-5)
    query = done.data.test.query["user_id_aggregate"]
    means = learned.groupby("user_id")["rating"].mean()
    mine = done.data.test.interactions["user_id"].map(means).to_numpy(dtype=float)
    np.testing.assert_allclose(query[:, 1], (mine - means.mean()) / means.std(ddof=0), rtol=1e-3, atol=1e-4)


def test_pre_trained_vectors_start_as_they_came_and_stay_where_frozen(done: Done) -> None:
    specs = {spec.name: spec for spec in [*done.data.query_specs, *done.data.item_specs]}
    frozen, trained = specs["item_id_embedding"], specs["user_id_embedding"]
    assert (frozen.pretrained, frozen.trainable, trained.pretrained, trained.trainable) == (6, False, 4, True)
    vectors = np.load(done.path / "items.npy")
    np.testing.assert_array_equal(done.data.pretrained["item_id_embedding"][3:], vectors)
    assert not done.data.pretrained["item_id_embedding"][:3].any()
    assert done.data.items["item_id_embedding"][:6].tolist() == [2, 2, 2, 2, 2, 3], "items without a vector are unseen"
    held = constants(done.path / "towers" / "item.onnx", (ITEMS - 5 + 3, 6))
    np.testing.assert_array_equal(held[3:], vectors)
    moved = constants(done.path / "towers" / "query.onnx", (USERS - 3 + 3, 4))
    start = done.data.pretrained["user_id_embedding"]
    assert 0 < np.abs(moved - start).max() < 0.5, "trained from where they were"


def test_vectors_that_cannot_be_found_or_read_are_refused_by_file_and_row(done: Done, tmp_path: Path) -> None:
    def refused(ids: Any, vectors: Any, message: str) -> None:
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        np.save(directory / "ids.npy", np.array(ids))
        np.save(directory / "v.npy", np.array(vectors))
        feature = Embedding(file=str(directory / "v.npy"), ids=str(directory / "ids.npy"))
        planned = plan(FeatureSide(features={"item_id": feature}), "item.features")
        with pytest.raises((DataError, RecipeError), match=message):
            describe(done.tables.items, planned, "item.features")

    refused(["a"], [[1.0]], "item_id: holds int64, but the ids of its vectors are string")
    refused([1, 2], [[1.0]], "v.npy: 1 vectors, but 2 ids")
    refused([1, 1], [[1.0], [2.0]], "ids.npy: id 1 in row 1 is there twice")
    refused([1, 2], [[1.0], [np.nan]], "v.npy: the vector in row 1, of id 2, is not finite")
    refused([1, 2], [[1e39], [1.0]], "v.npy: the vector in row 0, of id 1, is not finite in float32")
    refused([1, 2], [1.0, 2.0], "expected numbers")


def constants(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Return the one constant of this shape in a tower."""
    import onnx
    from onnx import numpy_helper

    held = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    (constant,) = [array for array in held if array.shape == shape]
    return constant
