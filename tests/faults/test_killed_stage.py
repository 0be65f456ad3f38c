"""A stage killed outright, at any point, leaves nothing half-written, and the next run continues."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.recipe import load_recipe
from retrieval.run import Job, Run, Stage
from retrieval.stages import STAGES
from workflows.files import atomic_directory

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "movielens-100k.toml"
FILES = 4


def write_files(job: Job, out: Path) -> None:
    for number in range(FILES):
        job.progress(f"before {number}")
        (out / str(number)).write_text("whole")
    job.progress("before the end")


def work(job: Job) -> None:
    job.progress("at the start")
    with atomic_directory(job.run / "files") as out:
        write_files(job, out)
    job.progress("after the rename")


STAGE = Stage("files", work, ("files",))
POINTS = FILES + 3


def die_at(point: int, runs: Path) -> None:
    """Run the stage and kill this very process at its `point`-th step."""
    steps = iter(range(POINTS))

    def step(message: str) -> None:
        if next(steps) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    run = Run.create(load_recipe(RECIPE), runs, (STAGE,))
    with run.lock():
        run.execute(STAGE, runs, step)


@pytest.mark.parametrize("again", [False, True], ids=["first time", "over a finished one"])
@pytest.mark.parametrize("point", range(POINTS))
def test_a_stage_killed_at_any_step_counts_as_not_run(tmp_path: Path, point: int, again: bool) -> None:
    run = Run.create(load_recipe(RECIPE), tmp_path, (STAGE,))
    if again:
        with run.lock():
            run.execute(STAGE, tmp_path, lambda message: None)
    code = (
        f"import runpy; runpy.run_path({__file__!r})['die_at']({point}, __import__('pathlib').Path({str(tmp_path)!r}))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    assert not run.is_finished(STAGE)
    output = run.directory / "files"
    assert not output.exists() or len(list(output.iterdir())) == FILES
    with run.lock():
        run.execute(STAGE, tmp_path, lambda message: None)
    assert run.is_finished(STAGE)
    assert sorted(path.name for path in run.directory.iterdir()) == [".lock", "files", "recipe.json", "stages"]


def test_a_real_stage_killed_at_a_random_line_continues(tmp_path: Path) -> None:
    line = random.randrange(1, 8)  # lines of `fetch` and `features`, the two that a test can afford
    command = [sys.executable, "-m", "retrieval", "features", str(RECIPE), "--runs", str(tmp_path)]
    fetch = [*command[:3], "fetch", *command[4:]]
    with subprocess.Popen(fetch, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        kill_at_line(process, line)
    assert subprocess.run(fetch, cwd=ROOT, capture_output=True).returncode == 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        kill_at_line(process, line)

    run = Run.open(tmp_path / "movielens-100k", STAGES)
    features = run.directory / "features"
    assert run.is_finished(run.stages["features"]) or not features.exists(), f"killed at line {line}"
    continued = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert continued.returncode == 0, continued.stderr
    assert run.is_finished(run.stages["features"])
    assert not [path for path in run.directory.iterdir() if path.name.startswith(".features")]


def kill_at_line(process: subprocess.Popen[str], line: int) -> None:
    assert process.stderr is not None
    for number, _ in enumerate(process.stderr, start=1):
        if number == line:
            process.kill()
