"""`retrieval tune`: a real search, on tables small enough that a trial takes a second or two."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

from retrieval.console import Terminal
from retrieval.recipes.recipe import load_recipe
from retrieval.recipes.toml import rewrite
from retrieval.tuning.dashboard import Dashboard
from retrieval.tuning.tunable import default_fields, field_names, parse_fields
from retrieval.tuning.tune import Budget, tune, tune_table
from tests.tiny import RECIPE, made_in
from workflows.errors import RecipeError, StageError

Command = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
FIELDS = ["model.dropout=0.1..0.5", "train.learning_rate=0.001..0.03:log", "model.tower=[[16],[32,16]]"]


def search(recipe: Path, trials: int, fields: list[str] = FIELDS, minutes: float = 5.0) -> dict[str, Any]:
    budget = Budget(minutes, trials)
    return tune(recipe, recipe.parent / "runs", recipe.parent, fields, budget, Terminal(sys.stderr))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose run has been searched, two trials; not to be written to."""
    recipe = made_in(tmp_path_factory.mktemp("searched"))
    search(recipe, trials=2)
    return recipe


@pytest.fixture
def searched(tuned: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(tuned.parent, tmp_path / "searched")
    return tmp_path / "searched" / tuned.name


def test_the_best_recipe_runs_as_it_is_and_keeps_the_comments(searched: Path) -> None:
    result = search(searched, trials=2)
    values = {trial["number"]: trial["value"] for trial in result["trials"]}
    assert result["best"] == max(values, key=lambda number: values[number])
    assert result["trials"][0]["fields"]["model.dropout"] == 0.25  # the recipe's own settings come first
    best = load_recipe(Path(result["best_recipe"]))
    drawn = next(trial["fields"] for trial in result["trials"] if trial["number"] == result["best"])
    assert [best.model.dropout, best.train.learning_rate, list(best.model.tower)] == list(drawn.values())
    assert best.name == "tiny-tuned"
    assert (best.train.epochs, best.query) == (2, load_recipe(searched).query)
    assert "# as in the paper" in Path(result["best_recipe"]).read_text(encoding="utf-8")
    assert tune_table(result).row_count == 2


def test_a_second_call_continues_the_search(searched: Path) -> None:
    first = search(searched, trials=2)
    second = search(searched, trials=3)
    assert second["trials"][:2] == first["trials"]
    assert len(second["trials"]) == 3
    assert search(searched, trials=3) == second


def test_other_fields_are_another_search(searched: Path) -> None:
    result = search(searched, trials=1, fields=["model.dropout=0.1..0.5"])
    assert [list(trial["fields"]) for trial in result["trials"]] == [["model.dropout"]]


def test_a_trial_that_was_cut_short_is_tried_again(tiny: Path) -> None:
    with pytest.raises(StageError, match="more --minutes"):
        search(tiny, trials=1, minutes=0.001)
    again = search(tiny, trials=1)
    assert [trial["fields"]["model.dropout"] for trial in again["trials"]] == [0.25]
    assert not list((tiny.parent / "runs" / "tiny" / "tune").glob(".trial.*"))


def test_the_test_rows_do_not_matter(searched: Path) -> None:
    known, run = search(searched, trials=2), searched.parent / "runs" / "tiny"
    path = run / "features" / "test" / "interactions.parquet"
    rows = pd.read_parquet(path)
    rows["item_index"] = rows["item_index"].to_numpy()[::-1]
    rows.to_parquet(path)
    (run / "tune" / "study.db").unlink()
    again = search(searched, trials=2)
    assert [trial["value"] for trial in again["trials"]] == [trial["value"] for trial in known["trials"]]


def test_a_failed_trial_does_not_end_the_search(tiny: Path) -> None:
    text = tiny.read_text(encoding="utf-8") + "learning_rate = 0.01\n"
    tiny.write_text(text, encoding="utf-8")
    result = search(tiny, trials=4, fields=["train.learning_rate=0.01,1e30"])  # 1e30 ends in NaN, which is not exported
    states = {trial["fields"]["train.learning_rate"]: trial["state"] for trial in result["trials"]}
    assert states == {0.01: "complete", 1e30: "failed"}
    assert len(result["trials"]) == 4


def test_a_trial_worse_than_the_others_is_stopped_early_and_not_tried_again(tiny: Path) -> None:
    tiny.write_text(tiny.read_text(encoding="utf-8").replace("epochs = 2", "epochs = 5"), encoding="utf-8")
    fields = ["train.learning_rate=0.02,1e-9"]
    result = search(tiny, trials=8, fields=fields)
    pruned = [trial for trial in result["trials"] if trial["state"] == "pruned"]
    assert pruned
    assert {(trial["fields"]["train.learning_rate"], trial["value"]) for trial in pruned} == {(1e-9, None)}
    assert result["best"] not in {trial["number"] for trial in pruned}
    assert search(tiny, trials=8, fields=fields) == result
    assert tune_table(result).row_count == 8


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("model.depth=1..3", "model.dropout, "),
        ("seed=1..3", "no such field"),
        ("train.monitor=all.recall@10,unseen.recall@10", "trials are compared by"),
        ("model.dropout=0.2..1.5", "< 1.0"),
        ("model.dropout=0.5..0.2", "LOW < HIGH"),
        ("model.dropout=0.0..0.2:log", "LOW > 0"),
        ("model.dropout=low..high", "two numbers"),
        ("train.batch_size=1.5..9.5", "whole numbers"),
        ("train.schedule=1..2", "not a number"),
        ("train.schedule=sawtooth,cosine", "sawtooth"),
        ("model.dropout", "expected model.dropout=LOW..HIGH"),
    ],
)
def test_a_wrong_field_is_refused_with_what_is_right(field: str, message: str) -> None:
    recipe = load_recipe(ROOT / "recipes" / "movielens-100k.toml")
    with pytest.raises(RecipeError) as refused:
        parse_fields([field], recipe)
    assert message in str(refused.value)
    assert field.partition("=")[0] in str(refused.value)


def test_the_command_refuses_before_it_downloads_anything(retrieval: Command, recipe: Path, tmp_path: Path) -> None:
    options = ("--minutes", 1, "--runs", tmp_path / "runs", "--cache", tmp_path / "cache")
    done = retrieval("tune", recipe, *options, "--field", "model.depth=1..3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "model.depth: no such field; there are model.tower" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_searched_without_naming_fields(path: Path) -> None:
    recipe = load_recipe(path)
    fields = {field.name for field in default_fields(recipe)}
    assert fields <= set(field_names(recipe))
    assert ("model.history_dropout" in fields) == ("history" in recipe.query.features)


@pytest.mark.parametrize(
    "text",
    [
        RECIPE,
        RECIPE.replace("[model]\n", "[model] # here\n"),
        RECIPE.replace("dropout = 0.25      # as in the paper\n", ""),
        RECIPE[: RECIPE.index("[model]")],
        RECIPE[: RECIPE.index("[model]")].replace("[data]", "model = { dropout = 0.25 }\n\n[data]"),
        "model.dropout = 0.25\n" + RECIPE[: RECIPE.index("[model]")],
    ],
    ids=["usual", "comment", "absent", "no section", "inline", "dotted"],
)
def test_however_a_recipe_is_laid_out_it_is_rewritten_to_the_same_meaning(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    changed = _with_dropout(recipe, 0.375)
    path.write_text(rewrite(text, {"model.dropout": 0.375}), encoding="utf-8")
    assert load_recipe(path) == changed


def _with_dropout(recipe: Any, dropout: float) -> Any:
    from msgspec.structs import replace as with_fields

    return with_fields(recipe, model=with_fields(recipe.model, dropout=dropout))


def test_the_dashboard_shows_the_search_to_those_who_have_the_token(searched: Path) -> None:
    messages: list[str] = []
    board, budget = Dashboard(messages.append), Budget(5.0, 2)
    result = tune(searched, searched.parent / "runs", searched.parent, FIELDS, budget, Terminal(sys.stderr), board.open)
    assert messages == [f"dashboard: {board.address}"]
    address = board.address.partition("?")[0]
    assert requests.get(f"{address}api/studies", timeout=30).status_code == 403
    session = requests.Session()
    page = session.get(board.address, timeout=30)
    assert "token" not in page.url
    assert "style-src 'self' 'unsafe-inline'" in page.headers["Content-Security-Policy"]
    [study] = session.get(f"{address}api/studies", timeout=30).json()["study_summaries"]
    trials = session.get(f"{address}api/studies/{study['study_id']}", timeout=30).json()["trials"]
    assert [trial["values"] for trial in trials] == [[trial["value"]] for trial in result["trials"]]
