"""JSON that is written is JSON to every parser, not Python's alone: it has no NaN and no infinity."""

from __future__ import annotations

import io
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from retrieval.console import Terminal
from retrieval.recipes.recipe import parse_recipe
from workflows.errors import RecipeError
from workflows.files import json_bytes


def test_numbers_that_json_does_not_have_are_null() -> None:
    written = json_bytes(
        {"nan": math.nan, "list": [np.float32("inf"), -math.inf, np.float64(0.1)], "rows": np.int64(7)}
    )
    assert msgspec.json.decode(written) == {"nan": None, "list": [None, None, 0.1], "rows": 7}
    with pytest.raises(TypeError, match="Path"):
        json_bytes({"path": Path()})


def test_what_a_command_prints_is_strict_and_its_texts_are_unchanged() -> None:
    stdout, title = io.StringIO(), "[b]Love[/b] :heart: \u2028" + "long " * 100
    Terminal(stdout).json({"recall": math.nan, "title": title})
    assert msgspec.json.decode(stdout.getvalue()) == {"recall": None, "title": title}


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (
            "user_id = { kind = 'categorical' }\nage = { kind = 'continuous', clip_max = inf }",
            "query.features.age.clip_max",
        ),
        ("age = [{ kind = 'bucketized', edges = [1.0, nan] }]", "query.features.age[0].edges[1]"),
    ],
)
def test_a_recipe_has_finite_numbers(line: str, place: str) -> None:
    text = 'name = "a"\n[data]\nsource = "movielens"\n[item.features]\nitem_id = { kind = "categorical" }\n'
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{text}[query.features]\n{line}\n", Path("a.toml"))
    assert str(caught.value).startswith("a.toml: expected a finite number, got ")
    assert str(caught.value).endswith(f" - at `$.{place}`")


def test_every_json_file_of_a_run_is_strict(run_dir: Path) -> None:
    files = list(run_dir.rglob("*.json"))
    assert {"metrics.json", "history.json", "params.json", "manifest.json"} <= {path.name for path in files}
    for path in files:
        msgspec.json.decode(path.read_bytes())
