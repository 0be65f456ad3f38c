"""`horovodrun -np 2 retrieval train`, as a user starts it: `make test-horovod` makes the environment for it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Job, Run
from retrieval.runs.stages import STAGES
from tests.tiny import RECIPE, tables

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="no Horovod here: `make test-horovod` builds it and runs these"
)
ROOT = Path(__file__).parents[2]
ALONE = [sys.executable, "-m", "retrieval"]
TWO = [str(Path(sys.executable).with_name("horovodrun")), "-np", "2", *ALONE]
# Nothing is drawn but the order of the rows, so that the ranks together do what one process does.
EXACT = "dropout = 0.0\nunseen_rate = 0.0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `tiny.toml` and its run's features in `runs/`; not to be written to."""
    place = tmp_path_factory.mktemp("ranks")
    text = RECIPE.replace("dropout = 0.25      # as in the paper", EXACT)
    text = text.replace("epochs = 2\nbatch_size = 256", "epochs = 4\nbatch_size = 200\nlearning_rate = 0.01")
    (place / "tiny.toml").write_text(text + "checkpoint_seconds = 0.0\n", encoding="utf-8")
    run = Run.create(load_recipe(place / "tiny.toml"), place / "runs", STAGES)

    def fetch(job: Job) -> None:
        (job.run.directory / "tables").mkdir()
        tables().save(job.run.directory / "tables")

    with run.lock():
        run.execute(replace(STAGES[0], work=fetch), place, str)
        run.execute(STAGES[1], place, str)
    return place


def copied(run: Path, place: Path, **changes: str) -> Path:
    """Copy the run, with other lines in its recipe."""
    shutil.copytree(run, place / "job")
    text = (place / "job/tiny.toml").read_text(encoding="utf-8")
    for old, new in changes.items():
        text = text.replace(next(line for line in text.splitlines() if line.startswith(f"{old} =")), f"{old} = {new}")
    (place / "job/tiny.toml").write_text(text, encoding="utf-8")
    return place / "job"


def command(how: list[str], job: Path, *more: str) -> list[str]:
    return [*how, "train", str(job / "tiny.toml"), "--runs", str(job / "runs"), *more]


def train(how: list[str], job: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(how, job, *more), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)


def history(job: Path) -> list[dict[str, float]]:
    return json.loads((job / "runs/tiny/towers/history.json").read_text())


def test_two_ranks_train_what_one_process_does(run: Path, tmp_path: Path) -> None:
    jobs = [copied(run, tmp_path / name) for name in ("one", "two")]
    for how, job in zip((ALONE, TWO), jobs, strict=True):
        done = train(how, job)
        assert done.returncode == 0, done.stdout + done.stderr
    alone, together = map(history, jobs)
    assert [entry.keys() for entry in alone] == [entry.keys() for entry in together]
    for expected, actual in zip(alone, together, strict=True):
        for name, value in expected.items():
            assert name == "seconds" or actual[name] == pytest.approx(value, abs=2e-3), name
    assert together[-1]["valid_all.recall@10"] > 2 * 10 / 60, "there was something to learn"
    vectors = [np.load(job / "runs/tiny/towers/item_vectors.npy") for job in jobs]
    np.testing.assert_allclose(*vectors, atol=2e-3)
    left = [
        {path.relative_to(job).as_posix() for path in job.rglob("*") if "tfevents" not in path.name} for job in jobs
    ]
    assert left[0] == left[1], "rank 0 alone writes, and nothing else than one process does"
    record = json.loads((jobs[1] / "runs/tiny/stages/train.json").read_text())
    again = train(TWO, jobs[1])
    assert again.returncode == 0, again.stderr
    assert "kept, same inputs" in again.stdout + again.stderr
    assert json.loads((jobs[1] / "runs/tiny/stages/train.json").read_text()) == record


def test_a_killed_rank_ends_the_job_and_the_last_checkpoint_goes_on(run: Path, tmp_path: Path) -> None:
    job = copied(run, tmp_path, epochs="400\npatience = 400")
    state = job / "runs/tiny/training/search/state.json"
    started = subprocess.Popen(command(TWO, job), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _until(lambda: state.exists() and json.loads(state.read_text())["epoch"] >= 3, started)
        os.kill(_pid_of_rank(started.pid, 1), signal.SIGKILL)
        output, _ = started.communicate(timeout=60)
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait()
    assert started.returncode != 0
    assert "another of the 2 processes ended" in output
    assert "the same command goes on from the last checkpoint" in output
    assert not (job / "runs/tiny/towers").exists()
    before = json.loads(state.read_text())["epoch"]
    again = subprocess.Popen(command(TWO, job), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _until(lambda: json.loads(state.read_text())["epoch"] > before, again)
    finally:
        again.terminate()
        output, _ = again.communicate(timeout=60)
    assert f"going on after epoch {before}" in output
    assert f"epoch {before + 1}: loss" in output


def test_what_only_one_process_can_do_is_refused(run: Path, tmp_path: Path) -> None:
    odd = train(TWO, copied(run, tmp_path, batch_size="201"))
    assert odd.returncode != 0
    assert "201 rows cannot be divided evenly over 2 processes" in odd.stdout + odd.stderr


def _until(true: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _pid_of_rank(launcher: int, rank: int) -> int:
    """Return the process of a rank below horovodrun, the one that trains."""
    for process in psutil.Process(launcher).children(recursive=True):
        with_rank = process.environ().get("HOROVOD_RANK") == str(rank)
        if with_rank and process.cmdline()[:3] == ALONE:
            return process.pid
    raise AssertionError("no such rank")
