"""A recipe with `[ranking]`: the stage comes and goes with it, and what is measured is what the release answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from ensemble.serving.retriever import Retriever
from models.ranking import config
from retrieval.console import Terminal
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.measured import SERVED
from retrieval.explore.views.quality import recall
from retrieval.recipes.recipe import load_recipe
from retrieval.report.tables import ranking_tables
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES

NAMES = [stage.name for stage in STAGES]
RANKING = config.IntTower(layers=(8,), heads=2, head_dim=4, candidates=20, epochs=2, batch_size=64, learning_rate=0.03)


def test_the_stage_comes_and_goes_with_the_recipe(tiny: Path, tmp_path: Path) -> None:
    """The release compares its ranker with the training side, through NVTabular, when it is made."""
    plain = load_recipe(tiny)
    ranked = msgspec.structs.replace(plain, ranking=RANKING)
    run = Run.create(ranked, tmp_path / "runs", STAGES)
    done = advance(run, NAMES, tmp_path, Terminal(sys.stderr))
    assert [entry["stage"] for entry in done if not entry["kept"]] == NAMES[1:]
    metrics = json.loads((run.directory / "metrics.json").read_text())
    assert metrics["unseen"] != metrics["retrieval"]["unseen"]
    check_one_number(run.directory, metrics)
    shown = Explored(run.directory).measured.rows.ranks[SERVED]
    assert (
        recall(shown, 10)
        == pytest.approx(metrics["unseen"]["recall@10"])
        != metrics["retrieval"]["unseen"]["recall@10"]
    )

    heads = msgspec.structs.replace(ranked, ranking=msgspec.structs.replace(RANKING, heads=1))
    for recipe in (heads, plain):
        changed = Run.create(recipe, tmp_path / "runs", STAGES)
        finished = [name for name, stage in changed.stages.items() if changed.is_finished(stage)]
        assert finished == ["fetch", "features", "train", "peers"]  # the towers stay as they are
        assert ("rank" in changed.stages) == (recipe is heads)
    assert [table.row_count for table in ranking_tables(metrics)] == [4]


def check_one_number(directory: Path, metrics: dict[str, dict[str, float]]) -> None:
    """Ask the release for the test rows: the recall is that of the metrics."""
    rows = pd.read_parquet(directory / "features" / "test" / "interactions.parquet")
    retriever = Retriever.load(directory / "release")
    for side in ("unseen", "all"):
        sent = {
            "user_id": rows["user_id"].to_numpy(np.int64)[:, None],
            "top_k": np.full((len(rows), 1), 10, np.int32),
            "include_seen": np.full((len(rows), 1), side == "all"),
        }
        answer = retriever.answer(retriever.reader.read([sent]))
        hits = (answer.item_id == rows["item_id"].to_numpy()[:, None]) & (np.arange(10) < answer.count[:, None])
        for k in (1, 5, 10):
            assert hits[:, :k].any(axis=1).mean() == pytest.approx(metrics[side][f"recall@{k}"], abs=2 / len(rows))
