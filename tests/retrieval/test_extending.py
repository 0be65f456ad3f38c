"""The additions of docs/extending.md apply to the tree, and what they add works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("workflows", "models", "ensemble", "retrieval")
KIND = """
from pathlib import Path
import pandas as pd
from retrieval.recipes.recipe import load_recipe
from tests.transforms import Compiled
recipe = load_recipe(Path("prefix.toml"))
frame = pd.DataFrame({"user_id": range(8), "postcode": ["1010", "1020", "1090", "20095", "20099", "8", None, "Zürich"]})
compiled = Compiled(recipe.query, frame, Path("compiled"))
texts = [*frame["postcode"], "10", "1", "", "99", "Züri", "日本語"]
compiled.check([{"user_id": 1, "postcode": text} for text in texts])
print(compiled.fitted.transform(frame)["postcode"].tolist())
"""
RECIPE = """
name = "prefix"
[data]
source = "movielens"
[query.features]
user_id = { kind = "categorical" }
postcode = { kind = "prefix", length = 2, max_size = 2 }
[item.features]
item_id = { kind = "categorical" }
"""
ENGINE = """
from pathlib import Path
import numpy as np
from ensemble.config import Index
from ensemble.serving.files.release import Release
from ensemble.serving.index.engines import load_index
from tests.synthetic import make_release, make_run
run = make_run(Path("made").resolve())
engine = load_index(Release.open(make_release(run, Index(kind="simhash"))))
scores, _ = engine.search(run.vectors, 5)
best = -np.sort(-(run.vectors @ run.vectors.T), axis=1)[:, :5]
recall = np.mean(scores > best - 1e-5)
print(type(engine).__name__, recall, run.items["item_id"][4])
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with all additions of the page."""
    copy = tmp_path_factory.mktemp("extended")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    for path in (ROOT / "tests").glob("*.py"):
        shutil.copy(path, copy / "tests")
    diffs = re.findall(
        r"^```diff\n(.*?)^```", (ROOT / "docs/extending.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(diffs) == 3
    for diff in diffs:
        subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, text=True, check=True)
    return copy


def run(copy: Path, *arguments: str) -> str:
    """Run Python in the copy, with its packages before the installed ones, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_kind_of_feature_is_served_as_nvtabular_makes_it(extended: Path) -> None:
    (extended / "prefix.toml").write_text(RECIPE, encoding="utf-8")
    codes = json.loads(run(extended, "-c", KIND).splitlines()[-1])
    assert codes == [3, 3, 3, 4, 4, 2, 1, 2], "10 and 20 are kept, 8 and Zü are not, and a null is a null"


def test_the_engine_finds_the_nearest_items_and_the_command_names_them(extended: Path) -> None:
    name, recall, item = run(extended, "-c", ENGINE).splitlines()[-1].split()
    assert name == "SimhashIndex"
    assert float(recall) > 0.9
    assert "similar" in run(extended, "-m", "retrieval", "--help")
    assert "--item" in run(extended, "-m", "retrieval", "similar", "--help")
    report = json.loads(
        run(extended, "-m", "retrieval", "similar", "made/release", "--item", item, "--top-k", "3", "--json")
    )
    assert report["item"] == item
    assert len({*report["similar"], item}) == 4
