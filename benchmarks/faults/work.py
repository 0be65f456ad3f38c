"""What the scenarios are given: short runs, a place of their own, the options."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT
from retrieval.console import Terminal
from workflows.files import atomic_write

ITEMS = 1659
"""Of a release that is made up: as many as MovieLens-100K has titles."""
EPOCHS = re.compile(r"^epochs = \d+.*$", re.MULTILINE)


@dataclass(frozen=True)
class Runs:
    """The short runs that are served and broken, made when they are first asked for."""

    directory: Path
    out: Terminal

    def recipe(self, source: str, name: str, seed: int = 42) -> Path:
        """Write a recipe of one epoch."""
        text = (ROOT / "recipes" / source).read_text(encoding="utf-8")
        text = EPOCHS.sub("epochs = 1" if "refit" in text else "epochs = 1\nrefit = false", text)
        text = re.sub(r'^name = ".*"$', f'name = "{name}"', text, count=1, flags=re.MULTILINE)
        text = re.sub(r"^seed = \d+", f"seed = {seed}", text, count=1, flags=re.MULTILINE)
        text = text.replace('"shop/', f'"{ROOT / "recipes"}/shop/')
        path = self.directory / f"{name}.toml"
        atomic_write(path, text.encode())
        return path

    def run(self, source: str, name: str, seed: int = 42) -> Path:
        """Return a finished run, released by the code as it is."""
        self.out.say(f"{name}: run of {source}")
        command = [sys.executable, "-m", "retrieval", "run", str(self.recipe(source, name, seed))]
        done = subprocess.run([*command, "--runs", str(self.directory)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
        return self.directory / name

    def first(self) -> Path:
        """Return a run of integer ids."""
        return self.run("movielens-100k.toml", "faults-first")

    def second(self) -> Path:
        """Return a run of the same tables with other towers."""
        return self.run("movielens-100k.toml", "faults-second", seed=43)

    def shop(self) -> Path:
        """Return a run of string ids with a column of floats."""
        return self.run("tables.toml", "faults-shop")


@dataclass(frozen=True)
class Work:
    """What a scenario is given."""

    runs: Runs
    scratch: Path
    options: argparse.Namespace

    def made_up(self) -> Path:
        """Return a directory with a release that nothing was trained for, in seconds, and its model repository."""
        from benchmarks.serving.worst_release import make_release
        from ensemble.triton.export import export_repository

        export_repository(make_release(self.scratch, ITEMS).path, self.scratch / "triton")
        return self.scratch

    def times(self, whole: int, quick: int) -> int:
        """Return how often to do it."""
        return quick if self.options.quick else whole

    def say(self, message: str) -> None:
        """Print a line of progress."""
        self.runs.out.step(message)
