"""A small run with every kind of query feature that TensorFlow can make of raw columns, and its export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.savedmodel.export import Source, write_saved_models
from ensemble.serving.files.release import Release
from models.training.stage import train
from retrieval.recipes.recipe import parse_recipe
from retrieval.runs.reference import trained_model
from workflows.features.stage import build, load
from workflows.tables.store import Tables

USERS, ITEMS, ROWS, TOP_K = 50, 40, 700, 12
RECIPE = """
name = "exported"

[data]
source = "movielens"

[query.features]
user_id = [{ kind = "categorical" }, { kind = "aggregate" }]
country = { kind = "categorical", vocabulary = "places" }
visited = { kind = "multi-hot", vocabulary = "places", max_length = 3, keep = "last", padding = "left" }
age = [
    { kind = "continuous", clip_min = 18, clip_max = 70, log = true },
    { kind = "bucketized", edges = [18, 40, 65] },
]
registered = { kind = "age", unit = "days", log = true }
likes = { kind = "multi-hot", weights = "how_much", max_length = 2 }
taste = { kind = "embedding" }
timestamp = [
    { kind = "time", part = "month" },
    { kind = "time", part = "hour", cyclic = true, utc_offset_hours = -3.5 },
]
history = { kind = "sequence", last = 5, padding = "left" }

[item.features]
item_id = { kind = "categorical" }

[model]
tower = [16, 8]
embedding_dim = 8

[train]
epochs = 1
refit = false
batch_size = 128
"""


class Exported(NamedTuple):
    """The export, what it was made of, and what its manifest says."""

    path: Path
    source: Source
    manifest: dict[str, Any]
    tables: Tables


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("exported")
    recipe, tables = parse_recipe(RECIPE, path / "recipe.toml"), made_up(np.random.default_rng(0))
    build(tables, recipe.query, recipe.item, recipe.data.split, "cpu", path / "features")
    data = load(path / "features")
    train(data, recipe.model, recipe.train, recipe.seed, "cpu", path / "towers", str)
    settings = Settings(recipe.name, "0" * 64, recipe.serving, recipe.index)
    write_release(Parts.of(path), Training(), settings)
    model = trained_model(recipe, path / "features", path / "towers")
    source = Source(Release.open(path / "release"), model, data.query_specs, path / "features")
    write_saved_models(source, TOP_K, path / "saved", str)
    manifest = json.loads((path / "saved" / "manifest.json").read_text())
    return Exported(path / "saved", source, manifest, tables)


def made_up_users(random: np.random.Generator, count: int) -> dict[str, Any]:
    """Return columns of so many users, of every type that features are made of."""

    def some(values: list[str], most: int) -> list[str]:
        return random.choice(values, random.integers(0, most + 1)).tolist()

    places, genres = ["é", "日本", "br", "de"], ["war", "love", "sea"]
    likes = [some(genres, 5) for _ in range(count)]
    return {
        "user_id": [f"u{i}" for i in range(count)],
        "country": [None if i % 9 == 0 else places[i % 4] for i in range(count)],
        "visited": [some(places, 5) for _ in range(count)],
        "age": [np.nan if i % 11 == 0 else float(15 + i) for i in range(count)],
        "registered": random.integers(900_000_000, 1_000_000_000, count),
        "likes": likes,
        "how_much": [random.random(len(liked)).tolist() for liked in likes],
        "taste": random.normal(size=(count, 3)).tolist(),
    }


def made_up(random: np.random.Generator) -> Tables:
    users = made_up_users(random, USERS)
    interactions = {
        "user_id": random.choice(users["user_id"], ROWS),
        "item_id": random.integers(0, ITEMS, ROWS) * 3_000_000_007,
        "rating": np.ones(ROWS, np.float32),
        "timestamp": random.integers(1_000_000_000, 1_020_000_000, ROWS),
    }
    items = {"item_id": np.arange(ITEMS) * 3_000_000_007, "title": [f"item {i}" for i in range(ITEMS)]}
    return Tables(pd.DataFrame(interactions), pd.DataFrame(users), pd.DataFrame(items))
