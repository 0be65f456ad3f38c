"""`--from RUN`, end to end: a run that goes on from another one, on newer tables with more users and items."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.towers.onnx import run_tower
from retrieval.commands.start.run import stage_or_run
from retrieval.console import Terminal
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from retrieval.runs.warm_start import from_run
from workflows.errors import RecipeError, StageError
from workflows.features.stage import load

RECIPE = """\
name = "shop"

[data]
source = "tables"
interactions = {{ path = "{name}/interactions.parquet" }}
items = {{ path = "{name}/items.parquet" }}
split = {{ kind = "temporal", test = 0.1, validation = 0.1 }}

[query.features]
user_id = {{ kind = "categorical" }}
history = {{ kind = "sequence", last = 5 }}

[item.features]
item_id = {{ kind = "categorical" }}
tags = {{ kind = "multi-hot", max_length = 4 }}
price = {{ kind = "continuous" }}

[model]
tower = [16, 8]
embedding_dim = 8

[train]
epochs = 2
batch_size = 128
{more}
"""


def write_tables(directory: Path, rows: int, users: int, items: list[int]) -> None:
    random = np.random.default_rng(0)
    users_of = random.integers(0, users, rows)
    directory.mkdir()
    interactions = {
        "user_id": users_of,
        "item_id": np.array(items)[(users_of * 7 + random.integers(0, 5, rows)) % len(items)],
    }
    pd.DataFrame({**interactions, "timestamp": 1_000_000_000 + np.arange(rows)}).to_parquet(
        directory / "interactions.parquet"
    )
    tags = [[f"t{item % 3}", f"u{item % 5}"] for item in items]
    catalogue = {
        "item_id": items,
        "title": [str(item) for item in items],
        "tags": tags,
        "price": [item * 0.5 for item in items],
    }
    pd.DataFrame(catalogue).to_parquet(directory / "items.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights' tables, and the finished run of the first."""
    directory = tmp_path_factory.mktemp("nights")
    write_tables(directory / "monday", 900, 30, list(range(40)))
    write_tables(directory / "tuesday", 1400, 45, list(range(50, 9, -1)))
    (directory / "monday.toml").write_text(RECIPE.format(name="monday", more=""))
    run = Run.create(load_recipe(directory / "monday.toml"), directory / "runs" / "monday", STAGES)
    advance(run, ["fetch", "features", "train"], directory, Terminal(sys.stderr))
    return directory


def going_on(place: Path, name: str, more: str, *stages: str) -> tuple[Run, list[dict[str, Any]]]:
    path = place / f"{name}.toml"
    path.write_text(RECIPE.format(name="tuesday", more=more))
    runs = place / "runs" / name
    recipe, _ = stage_or_run(load_recipe(path), runs, str(place / "runs" / "monday" / "shop"))
    run = Run.create(recipe, runs, STAGES)
    return run, advance(run, stages or ("fetch", "features", "train"), place, Terminal(sys.stderr))


def test_towers_that_were_not_trained_further_give_the_vectors_they_gave(place: Path) -> None:
    """And new users and items have those of unseen ones."""
    run, _ = going_on(place, "still", "[train.warm_start]\nepochs = 0")
    before = place / "runs" / "monday" / "shop"
    then, now = load(before / "features"), load(run.directory / "features")
    old, new = (np.load(directory / "towers" / "item_vectors.npy") for directory in (before, run.directory))
    places = pd.Index(now.catalogue["item_id"]).get_indexer(then.catalogue["item_id"][10:])
    np.testing.assert_allclose(new[places], old[10:], atol=1e-6)
    rows = {"user_id": np.array([3, 4, 20, 2]), "history_age": np.ones((4, 5), np.float32)}
    histories = np.array([[13, 14, 0, 0, 0], [20, 0, 0, 0, 0], [0] * 5, [42, 41, 40, 0, 0]])
    places = pd.Index(now.catalogue["item_id"]).get_indexer(histories.ravel() - 3)
    moved = np.where(histories, places.reshape(4, 5) + 3, 0)
    expected = run_tower(before / "towers" / "query.onnx", {**rows, "history": histories})
    vectors = run_tower(run.directory / "towers" / "query.onnx", {**rows, "history": moved})
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    stranger = int(now.warm_start.rows["user_id"].tolist().index(2, 3)) if now.warm_start else 0
    inputs = [{**rows, "user_id": np.full(4, code), "history": moved} for code in (2, stranger)]
    unseen, new_user = (run_tower(run.directory / "towers" / "query.onnx", features) for features in inputs)
    np.testing.assert_allclose(new_user, unseen, atol=1e-6)


def test_a_run_that_goes_on_is_released_and_kept_until_the_earlier_one_changes(place: Path) -> None:
    """The release compares its answers with the training side's; otherwise there is none."""
    names = [stage.name for stage in STAGES]
    more = '[train.warm_start]\nepochs = 1\nsearch = false\ninteractions = "new"\nnew_rows = "attributes"'
    run, done = going_on(place, "tuesday-run", more, *names)
    assert not any(entry["kept"] for entry in done)
    assert (run.directory / "release" / "manifest.json").is_file()
    Run.open(run.directory, STAGES).require("features", "train", "evaluate", "release")
    _, done = going_on(place, "tuesday-run", more, *names)
    assert all(entry["kept"] for entry in done)
    zero = Run.create(load_recipe(place / "tuesday-run.toml"), place / "runs" / "tuesday-run", STAGES)
    finished = [stage.name for stage in STAGES if zero.is_finished(stage)]
    assert "fetch" in finished
    assert not {"features", "train", "release"} & set(finished)


def test_what_cannot_be_gone_on_from_is_refused_before_anything_is_written(place: Path) -> None:
    recipe, runs = load_recipe(place / "monday.toml"), place / "runs" / "monday"
    with pytest.raises(RecipeError, match="a run cannot go on from itself"):
        from_run(recipe, runs, runs / "shop")
    with pytest.raises(RecipeError, match=r"--from trian: no such run, and no stage; the stages are fetch, "):
        stage_or_run(recipe, runs, "trian")
    with pytest.raises(StageError, match="not a run"):
        from_run(recipe, place, place / "nowhere")
