"""A recipe whose stages take a second or two each, and its run with finished tables, made without a download."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Job, Run
from retrieval.runs.stages import STAGES
from workflows.tables.store import Tables

RECIPE = """\
name = "tiny"

[data]
source = "movielens"

[query.features]
user_id = { kind = "categorical" }

[item.features]
item_id = { kind = "categorical" }

[model]
tower = [16]
embedding_dim = 8
dropout = 0.25      # as in the paper

[train]
epochs = 2
batch_size = 256
"""


def tables() -> Tables:
    random = np.random.default_rng(0)
    users, items = random.integers(0, 40, 1500), random.integers(0, 15, 1500)
    rows = {"user_id": users, "item_id": items * 4 + users % 4, "rating": np.ones(1500, np.float32)}
    return Tables(
        interactions=pd.DataFrame({**rows, "timestamp": 1_000_000_000 + np.arange(1500)}),
        users=pd.DataFrame({"user_id": np.arange(40)}),
        items=pd.DataFrame({"item_id": np.arange(60), "title": [f"item {n}" for n in range(60)]}),
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A recipe, and beside it in `runs` its run with finished tables, made without a download."""
    return made_in(tmp_path)


def made_in(place: Path) -> Path:
    """Write a recipe, and beside it in `runs` its run with finished tables; return the recipe's path."""

    def fetch(job: Job) -> None:
        (job.run.directory / "tables").mkdir()
        tables().save(job.run.directory / "tables")

    path = place / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    run = Run.create(load_recipe(path), place / "runs", STAGES)
    with run.lock():
        run.execute(replace(STAGES[0], work=fetch), place, str)
    return path
