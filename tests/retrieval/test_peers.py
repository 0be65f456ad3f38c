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
from retrieval.runs.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def trained(tiny: Path) -> Path:
    """The tiny recipe's run, evaluated."""
    run = Run.create(load_recipe(tiny), tiny.parent / "runs", STAGES)
    advance(run, ["features", "train", "evaluate"], tiny.parent, Terminal(sys.stderr))
    return run.directory


def test_the_peers_stand_beside_the_towers_on_the_same_rows(retrieval: Command, trained: Path) -> None:
    done = retrieval("evaluate", trained, "--peers", "--json")
    assert done.returncode == 0, done.stderr
    found, metrics = json.loads(done.stdout), json.loads((trained / "metrics.json").read_text())
    assert found == json.loads((trained / "peers.json").read_text())
    models = {model["name"]: model for model in found["models"]}
    assert list(models) == ["two-tower", "popularity", "item KNN", "EASE", "ALS"]
    assert found["rows"] == metrics["rows"]
    for name, measured in (("two-tower", metrics), ("popularity", metrics["popularity"])):
        for side in ("all", "unseen"):
            assert models[name][side] == pytest.approx({key: measured[side][key] for key in models[name][side]})
    assert ("skipped" in models["ALS"]) == (find_spec("implicit") is None)
    table = retrieval("evaluate", trained).stdout
    assert "user and item known" in table
    again = retrieval("evaluate", trained, "--peers")
    assert "peers: kept, same inputs" in again.stderr
    assert "item KNN" in again.stdout
