"""Stages are kept while what they were made from stays the same, and run again when it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from retrieval.console import Terminal
from retrieval.recipes.recipe import Recipe, load_recipe
from retrieval.runs.run import Job, Run, Stage, advance
from retrieval.runs.stages import STAGES
from workflows.errors import RecipeError, StageError
from workflows.files import atomic_directory

ROOT = Path(__file__).parents[3]
RECIPE = load_recipe(ROOT / "recipes" / "movielens-100k.toml")


def writer(name: str, *reads: str) -> Any:
    """A stage that writes one file, made of what it reads."""

    def work(job: Job) -> None:
        content = "+".join([name, *((job.run.directory / source / "out.txt").read_text() for source in reads)])
        with atomic_directory(job.run.directory / name) as out:
            (out / "out.txt").write_text(content)

    return work


SMALL = (
    Stage("first", writer("first"), ("first",), settings=lambda recipe: recipe.seed),
    Stage("second", writer("second", "first"), ("second",), needs=("first",), settings=lambda recipe: recipe.device),
    Stage("third", writer("third", "second"), ("third",), needs=("second",)),
)
NAMES = [stage.name for stage in SMALL]
ALL = {stage.name for stage in STAGES if stage.wanted(RECIPE)}


@pytest.fixture
def teller() -> Terminal:
    return Terminal(sys.stderr)


def kept(run: Run, teller: Terminal, tmp_path: Path) -> list[str]:
    return [done["stage"] for done in advance(run, NAMES, tmp_path, teller) if done["kept"]]


def changed(recipe: Recipe, **sections: Any) -> Recipe:
    return msgspec.convert({**msgspec.to_builtins(recipe), **sections}, Recipe)


def test_a_second_run_keeps_every_stage(tmp_path: Path, teller: Terminal) -> None:
    run = Run.create(RECIPE, tmp_path, SMALL)
    assert kept(run, teller, tmp_path) == []
    assert kept(run, teller, tmp_path) == NAMES
    assert (run.directory / "third" / "out.txt").read_text() == "third+second+first"
    assert Run.open(run.directory, SMALL).recipe == RECIPE


def test_a_changed_setting_runs_its_stage_and_those_after_it(tmp_path: Path, teller: Terminal) -> None:
    advance(Run.create(RECIPE, tmp_path, SMALL), NAMES, tmp_path, teller)
    assert kept(Run.create(changed(RECIPE, device="cpu"), tmp_path, SMALL), teller, tmp_path) == ["first"]


def test_a_lost_output_is_made_again_with_all_that_follows(tmp_path: Path, teller: Terminal) -> None:
    run = Run.create(RECIPE, tmp_path, SMALL)
    advance(run, NAMES, tmp_path, teller)
    (run.directory / "second" / "out.txt").unlink()
    (run.directory / "second").rmdir()
    assert kept(run, teller, tmp_path) == ["first"]


@pytest.mark.parametrize(
    ("section", "value", "stale"),
    [
        ("bench", {"requests": 7}, set()),
        ("serving", {"top_k": 7}, {"release"}),
        ("train", {"epochs": 7}, {"train", "evaluate", "release"}),
        ("evaluate", {"ks": [3]}, {"evaluate"}),
        ("evaluate", {"peers": ["knn"]}, {"peers", "evaluate"}),
        (
            "item",
            {"features": {"item_id": {"kind": "categorical"}}},
            {"features", "train", "peers", "evaluate", "release"},
        ),
        ("data", {"source": "movielens", "variant": "1m"}, ALL),
    ],
)
def test_each_section_of_the_recipe_makes_just_its_stages_run_again(
    tmp_path: Path, teller: Terminal, section: str, value: Any, stale: set[str]
) -> None:
    idle = tuple(_idle(stage) for stage in STAGES)
    names = [stage.name for stage in idle]
    advance(Run.create(RECIPE, tmp_path, idle), names, tmp_path, teller)
    again = advance(Run.create(changed(RECIPE, **{section: value}), tmp_path, idle), names, tmp_path, teller)
    assert {done["stage"] for done in again if not done["kept"]} == stale


def _idle(stage: Stage) -> Stage:
    """The stage with its needs and settings, but with work that only writes its outputs."""

    def work(job: Job) -> None:
        for output in stage.outputs:
            (job.run.directory / output).touch()

    return Stage(stage.name, work, stage.outputs, stage.needs, stage.settings, stage.version, stage.wanted)


def test_a_failed_stage_leaves_nothing_and_runs_next_time(tmp_path: Path, teller: Terminal) -> None:
    def fail(job: Job) -> None:
        with atomic_directory(job.run.directory / "second") as out:
            (out / "half").write_text("half")
            raise RuntimeError

    run = Run.create(RECIPE, tmp_path, (SMALL[0], Stage("second", fail, ("second",), ("first",)), SMALL[2]))
    with pytest.raises(RuntimeError):
        advance(run, NAMES, tmp_path, teller)
    assert sorted(path.name for path in run.directory.iterdir() if path.is_dir()) == ["first", "stages"]
    assert kept(Run.create(RECIPE, tmp_path, SMALL), teller, tmp_path) == ["first"]


def test_a_stage_without_its_inputs_says_which_is_missing(tmp_path: Path, teller: Terminal) -> None:
    run = Run.create(RECIPE, tmp_path, SMALL)
    with pytest.raises(StageError, match=r"stage 'second' has not been run; run `retrieval run"):
        advance(run, ["third"], tmp_path, teller)
    advance(run, NAMES, tmp_path, teller)
    with pytest.raises(StageError, match=r"stage 'second' is out of date"):
        advance(Run.create(changed(RECIPE, seed=7), tmp_path, SMALL), ["third"], tmp_path, teller)


def test_two_processes_do_not_write_to_one_run(tmp_path: Path, teller: Terminal) -> None:
    run = Run.create(RECIPE, tmp_path, SMALL)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from retrieval.recipes.recipe import load_recipe\nfrom retrieval.runs.run import Run\n"
        "with Run.create(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), ()).lock():\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, str(ROOT / "recipes" / "movielens-100k.toml"), str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StageError, match=rf"process {process.pid} .*wait for it or stop it"):
            advance(run, NAMES, tmp_path, teller)
        process.kill()
    assert kept(run, teller, tmp_path) == []


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_a_place_that_libraries_would_take_for_a_pattern_is_refused_before_anything_runs(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(RecipeError, match=r"--runs .* take '.' for a pattern"):
        Run.create(RECIPE, tmp_path / name, STAGES)
