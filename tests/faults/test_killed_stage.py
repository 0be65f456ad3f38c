"""A stage killed outright, at any point, leaves nothing half-written, and the next run continues."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensemble.triton.find import cache_directory
from retrieval.console import Terminal
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Job, Run, Stage, advance
from retrieval.runs.stages import STAGES
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
    # As `fetch` and `features` do, one within the other.
    with (
        atomic_directory(job.run.directory / "files") as out,
        atomic_directory(out) as inner,
        atomic_directory(inner) as last,
    ):
        write_files(job, last)
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


def die_on_demand() -> None:
    """For each line "point directory" let a fork of this process die, and print what it died of."""
    for line in sys.stdin:
        point, runs = line.split(maxsplit=1)
        child = os.fork()
        if child == 0:
            try:
                die_at(int(point), Path(runs.strip()))
            finally:
                os._exit(1)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


@pytest.fixture(scope="module")
def deaths() -> Iterator[subprocess.Popen[str]]:
    """A process that runs `die_on_demand`: one start, with its imports, for all deaths."""
    code = f"import runpy; runpy.run_path({__file__!r})['die_on_demand']()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, bufsize=1, **pipes) as process:
        yield process


@pytest.mark.parametrize("again", [False, True], ids=["first time", "over a finished one"])
@pytest.mark.parametrize("point", range(POINTS))
def test_a_stage_killed_at_any_step_counts_as_not_run(
    deaths: subprocess.Popen[str], tmp_path: Path, point: int, again: bool
) -> None:
    run = Run.create(load_recipe(RECIPE), tmp_path, (STAGE,))
    if again:
        with run.lock():
            run.execute(STAGE, tmp_path, lambda message: None)
    assert deaths.stdin is not None
    assert deaths.stdout is not None
    deaths.stdin.write(f"{point} {tmp_path}\n")
    assert int(deaths.stdout.readline()) == -signal.SIGKILL

    assert not run.is_finished(STAGE)
    output = run.directory / "files"
    assert not output.exists() or len(list(output.iterdir())) == FILES
    with run.lock():
        run.execute(STAGE, tmp_path, lambda message: None)
    assert run.is_finished(STAGE)
    assert sorted(path.name for path in run.directory.iterdir()) == [".lock", "files", "recipe.json", "stages"]


def test_what_a_process_killed_while_it_noted_something_left_is_removed(tmp_path: Path) -> None:
    run = Run.create(load_recipe(RECIPE), tmp_path, (STAGE,))
    with run.lock():
        run.execute(STAGE, tmp_path, lambda message: None)
    before = contents(run.directory)
    for name in (".recipe.json.k3oj0xy1", "stages/.files.json.yqfa4yri"):
        (run.directory / name).touch()
    with run.lock():
        assert contents(run.directory) == before


@pytest.mark.parametrize("stage", ["fetch", "features"])
def test_a_real_stage_killed_at_a_random_line_continues(
    stage: str, run_dir: Path, quick_recipe: Path, tmp_path: Path
) -> None:
    line = random.randrange(1, 6)  # of those that it prints; past the last one it is not killed at all
    run = Run.open(Path(shutil.copytree(run_dir, tmp_path / run_dir.name)), STAGES)
    command = [sys.executable, "-m", "retrieval", stage, quick_recipe, "--force", "--runs", tmp_path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        kill_at_line(process, line)
    (output,) = run.stages[stage].outputs
    complete = contents(run_dir / output)
    assert contents(run.directory / output) == complete, f"half-written, killed at line {line}"

    advance(run, [stage], cache_directory(), Terminal(sys.stderr))
    assert run.is_finished(run.stages[stage])
    assert contents(run.directory / output) == complete
    assert [path.name for path in run.directory.glob(".*")] == [".lock"]


def contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def kill_at_line(process: subprocess.Popen[str], line: int) -> None:
    assert process.stderr is not None
    for number, _ in enumerate(process.stderr, start=1):
        if number == line:
            process.kill()
