"""Runs of all stages in processes that can be killed: forked from one that has imported most of what they need."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_IMPORTED = ["retrieval.runs.stages", "workflows.features.stage", "workflows.sources", "tensorflow"]
"""Not merlin-models: importing it starts TensorFlow's threads, which a fork does not have."""


class Started:
    """Tells the parent which stage begins (`retrieval.runs.run.Teller`)."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, message: str) -> None:
        """Tell nobody."""

    def step(self, message: str) -> None:
        """Tell nobody."""

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Tell the name."""
        self._pipe.send(name)
        yield


class Forks:
    """Makes processes that run a recipe."""

    def __init__(self) -> None:
        """Start the process that they are forked from, which takes as long as importing TensorFlow does.

        PYTHONHASHSEED is fixed: the tags of a schema are a set of strings, and are written in its order.
        """
        os.environ.update(PYTHONHASHSEED="0", TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS="ignore")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED)

    def start(self, recipe: Path, runs: Path) -> tuple[Any, Connection]:
        """Start all stages; return the process and a pipe that says which stage begins."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run, args=(recipe, runs, theirs))
        process.start()
        theirs.close()
        return process, ours


def run(recipe: Path, runs: Path, pipe: Connection) -> None:
    """Run the stages of a recipe that are due."""
    from retrieval.console import silence_libraries
    from retrieval.recipes.recipe import load_recipe
    from retrieval.runs.run import Run, advance
    from retrieval.runs.stages import STAGES
    from workflows.sources.download import cache_directory

    silence_libraries()
    log = os.open(runs.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    created = Run.create(load_recipe(recipe), runs, STAGES)
    advance(created, [stage.name for stage in STAGES], cache_directory(), Started(pipe))
