"""The command line as a user runs it, and a small source that needs no network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retrieval.cli import app
from tests.tiny import tiny

__all__ = ["tiny"]

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def retrieval() -> Command:
    """Run `retrieval ARGUMENTS` in a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "retrieval", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def mistaken() -> Command:
    """Run `retrieval ARGUMENTS` in this process: for what is refused before any work begins."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A copy of the recipe that ships with the project, to be changed."""
    path = tmp_path / "recipe.toml"
    path.write_text((ROOT / "recipes" / "movielens-100k.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return path
