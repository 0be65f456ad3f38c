"""What every test folder may use: a real run, made once by the real command line, and a small made-up one, served."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The workers of a test run share the cores: threads that wait for each other's turn took most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["no_proxy"] = "127.0.0.1,localhost"  # for the plain channels of these tests

from tests.served import channel, client, served, servers  # one server for all folders, so imported here alone
from tests.synthetic import dated_run, release, run, runs

__all__ = ["channel", "client", "dated_run", "release", "run", "runs", "served", "servers"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("project", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

SLOW_FOLDERS = ("benchmarks", "congruence", "containers", "faults", "live", "models", "ranks", "saved", "server")
"""Their tests train, start servers or break things on purpose."""
SLOW_FILES = (
    *("ensemble/batch/test_batch_answers.py", "ensemble/test_index.py", "ensemble/test_versions.py"),
    *("release/test_fuzz.py", "release/test_hostile.py", "release/test_schema.py"),
    *("retrieval/commands/test_peers.py", "retrieval/runs/test_warm_start.py", "retrieval/runs/test_every_feature.py"),
    *("retrieval/runs/test_ranking.py", "retrieval/test_tuning.py"),
    *("serving/test_engines.py", "serving/test_filtered_recall.py", "serving/test_index.py", "serving/test_search.py"),
    "workflows/features/test_parts.py",
)
"""Those of the other folders that take more than ten seconds."""
LONGEST_FILES = (
    "congruence/test_engines_served.py",
    "models/training/test_training.py",
    "retrieval/test_tuning.py",
    "containers/test_docs.py",
    "retrieval/test_fit.py",
    "workflows/features/test_parts.py",
    "retrieval/commands/test_serving.py",
    "retrieval/init/test_init.py",
    "retrieval/test_planning.py",
    "retrieval/test_notebook.py",
    "retrieval/runs/test_warm_start.py",
    "server/test_server.py",
)
"""Those that take a minute and more on a busy machine."""
SLOW_FIXTURES = {"run_dir", "served", "client", "channel", "retrieval"}
"""What takes a trained run, a server or the command line in a process of its own."""

TESTS = Path(__file__).parent
RECIPE = TESTS.parent / "recipes" / "movielens-100k.toml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out; a module with other slow tests marks itself. Workers, which take file by
    file in this order, begin with the longest, so that none is left alone at the end."""
    for item in items:
        fixtures = SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
        path = item.path.relative_to(TESTS)
        slow = path.parts[0] in SLOW_FOLDERS or path.as_posix() in SLOW_FILES
        if slow or fixtures or item.get_closest_marker("server"):
            item.add_marker(pytest.mark.slow)
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {TESTS / name: place for place, name in enumerate(LONGEST_FILES)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


def retrieval(*arguments: str | Path, cwd: Path | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the `retrieval` command of this environment; the caller looks at the exit code."""
    command = [sys.executable, "-m", "retrieval", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="session")
def quick_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MovieLens-100K recipe with one epoch of training: every real part, in half a minute."""
    text = RECIPE.read_text(encoding="utf-8")
    start = text.index("[train]")
    end = text.index("[index]")
    path = tmp_path_factory.mktemp("recipe") / "quick.toml"
    text = (
        text[:start]
        + '[train]\nepochs = 1\nrefit = false\n\n[evaluate]\npeers = ["ease"]\npeers_seconds = 5.0\n\n'
        + text[end:]
    )
    path.write_text(text.replace('name = "movielens-100k"', 'name = "quick"'), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_dir(quick_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: tables, features, towers, metrics, release and Triton repository. Do not write to it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # made by the first worker that needs it, for all
        shared = shared.parent
    with (shared / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = retrieval("run", quick_recipe, "--runs", shared / "runs")  # keeps what is there
    assert done.returncode == 0, done.stderr
    return shared / "runs" / "quick"
