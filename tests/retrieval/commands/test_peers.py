"""`retrieval evaluate RUN --peers`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from retrieval.console import Terminal
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def trained(tiny: Path) -> Path:
    """The tiny recipe's run, trained."""
    run = Run.create(load_recipe(tiny), tiny.parent / "runs", STAGES)
    advance(run, ["features", "train"], tiny.parent, Terminal(sys.stderr))
    return run.directory


def test_the_peers_stand_beside_the_towers_on_the_same_rows_and_give_a_verdict(
    retrieval: Command, trained: Path
) -> None:
    done = retrieval("evaluate", trained, "--json")
    assert done.returncode == 0, done.stderr
    assert "EASE: l2 200" in done.stderr, "progress names every setting that is tried"
    metrics = json.loads(done.stdout)
    assert metrics == json.loads((trained / "metrics.json").read_text())
    models = {model["name"]: model for model in metrics["comparison"]["models"]}
    assert list(models)[:2] == ["two-tower", "popularity"]
    assert {"item KNN", "EASE", "ALS", "recent item KNN"} <= set(models)
    for name, measured in (("two-tower", metrics), ("popularity", metrics["popularity"])):
        for side in ("all", "unseen"):
            assert models[name][side] == pytest.approx({key: measured[side][key] for key in models[name][side]})
    assert ("skipped" in models["ALS"]) == (find_spec("implicit") is None)
    peers = [model for name, model in models.items() if name != "two-tower" and "skipped" not in model]
    best = max(peers, key=lambda model: model["unseen"]["recall@10"])
    verdict = metrics["verdict"]
    assert verdict["against"] == best["name"]
    assert verdict["theirs"] == best["unseen"]["recall@10"]
    difference, low, high = verdict["lead"]["recall@10"]
    assert difference == pytest.approx(verdict["ours"] - verdict["theirs"])
    assert verdict["outcome"] == ("ahead" if low > 0 else "behind" if high < 0 else "level")


def test_the_peers_to_compare_with_can_be_chosen(retrieval: Command, trained: Path) -> None:
    done = retrieval("evaluate", trained, "--peers", "ease,knn")
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout
    assert "user and item known" in done.stdout
    names = [model["name"] for model in json.loads((trained / "metrics.json").read_text())["comparison"]["models"]]
    assert names == ["two-tower", "popularity", "item KNN", "EASE"]
    assert "peers: kept, same inputs" in retrieval("evaluate", trained).stderr
    wrong = retrieval("evaluate", trained, "--peers", "svd")
    assert wrong.returncode == 2
    assert "no peer 'svd'; there are popularity, knn, recent-knn, ease, als, or none" in wrong.stderr
