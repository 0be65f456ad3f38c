"""A run: one directory, its recipe, and what each stage left in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from ensemble.layouts import MODELS
from retrieval.recipes.recipe import Recipe
from retrieval.runs.horovod import leading
from workflows.errors import RecipeError, StageError
from workflows.files import atomic_write, writing
from workflows.progress import Progress

RECIPE = "recipe.json"


class Cluster(NamedTuple):
    """Where stages that use Dask do their work, see `workflows.features.dask_cluster`; no output depends on it."""

    workers: int | None = None
    scheduler: str | None = None


ANYWHERE = Cluster()


@dataclass(frozen=True)
class Job:
    """What a stage gets to do its work."""

    run: Run
    """Its directory is an absolute path: a stage reads the outputs of earlier stages there and writes its own."""
    cache: Path
    """Where downloads are kept between runs."""
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One step of a run."""

    name: str
    work: Callable[[Job], None]
    outputs: tuple[str, ...]
    """Files or directories, relative to the run."""
    needs: tuple[str, ...] = ()
    """Names of the stages whose outputs it reads."""
    settings: Callable[[Recipe], Any] = lambda recipe: None
    """The part of the recipe that the outputs depend on. Nothing else in the recipe makes the stage run again."""
    version: int = 1
    """Raised when the stage's code changes what it writes."""
    wanted: Callable[[Recipe], bool] = lambda recipe: True
    """Whether a recipe has this stage. To one that has not, it is as if there were none: no stage waits for it."""
    inputs: Callable[[Run], Any] = lambda run: None
    """What tells whether files outside of the run changed, as JSON. A recipe that is run looks at them; a run that is
    opened is what it was made from."""


class Teller(Protocol):
    """Who is told how it goes (`retrieval.console.Terminal`)."""

    def say(self, message: str) -> None:
        """Take a line that stays."""

    def step(self, message: str) -> None:
        """Take what is being done now."""

    def working(self, name: str) -> AbstractContextManager[None]:
        """Show that something is being done inside the block."""
        ...


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished stage leaves in `stages/<name>.json`."""

    id: str
    """New each time the stage runs: later stages depend on it."""
    fingerprint: str
    inputs: Any = None
    """What the stage's `inputs` were just before it ran."""
    seconds: float
    finished: str


@dataclass(frozen=True)
class Run:
    """`runs/<name>/`: the resolved recipe and the outputs of the stages."""

    directory: Path
    recipe: Recipe
    stages: dict[str, Stage] = field(repr=False)
    cluster: Cluster = ANYWHERE
    watched: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """The present `inputs` of the stages that were asked about, by name; None where they are not looked at."""

    @classmethod
    def create(cls, recipe: Recipe, runs: Path, stages: Sequence[Stage] | None = None) -> Run:
        """Return the run of a recipe below `runs`; its directory is made when the first stage runs. Raise RecipeError
        for a path with signs that TensorFlow and Dask take for a pattern of paths."""
        if signs := sorted(set(str(runs.absolute())) & set("*?[")):
            raise RecipeError(
                f"--runs {runs}: TensorFlow and Dask take '{signs[0]}' for a pattern; choose another place"
            )
        return cls(runs / recipe.name, recipe, _wanted(stages, recipe), watched={})

    @classmethod
    def open(cls, directory: Path, stages: Sequence[Stage] | None = None) -> Run:
        """Return the run in a directory; raise StageError where that has no `recipe.json` that we understand."""
        path = directory / RECIPE
        try:
            recipe = msgspec.json.decode(path.read_bytes(), type=Recipe)
        except (FileNotFoundError, NotADirectoryError):
            raise StageError(f"{directory}: not a run (no recipe.json); make one with `retrieval run RECIPE`") from None
        except msgspec.DecodeError as error:
            raise StageError(f"{path}: {error}; run `retrieval run RECIPE` again") from None
        return cls(directory, recipe, _wanted(stages, recipe))

    @property
    def features(self) -> Path:
        """Return where the encoded tables and the fitted transforms are."""
        return self.directory / "features"

    @property
    def towers(self) -> Path:
        """Return where the trained towers are."""
        return self.directory / "towers"

    @property
    def ranker(self) -> Path:
        """Return where the ranker is, in a run that ranks."""
        return self.directory / "ranker"

    @property
    def peers(self) -> Path:
        """Return where the simple models are that the towers are compared with."""
        return self.directory / "peers"

    @property
    def release(self) -> Path:
        """Return where the release is."""
        return self.directory / "release"

    @property
    def triton(self) -> Path:
        """Return where the Triton model repository is."""
        return self.directory / "triton"

    @property
    def metrics(self) -> Path:
        """Return where the measured metrics are."""
        return self.directory / "metrics.json"

    @cached_property
    def earlier(self) -> Run | None:
        """Return the finished run that the recipe goes on from; None where it starts from zero. Raise StageError where
        there is no such run, or its features or towers are not finished."""
        warm_start = self.recipe.train.warm_start
        if not warm_start or not warm_start.run:
            return None
        run = Run.open(Path(warm_start.run), tuple(self.stages.values()))
        run.require("features", "train")
        return run

    def earlier_id(self, stage: str) -> str | None:
        """Return the identity of what a stage made in the earlier run; None where there is none."""
        record = earlier.record(stage) if (earlier := self.earlier) else None
        return record.id if record else None

    def with_layout(self, layout: str) -> Run:
        """Return the run with another `[serving] layout`; raise RecipeError where there is no such layout."""
        if layout not in MODELS:
            raise RecipeError(f"--layout {layout}: expected one of {', '.join(MODELS)}")
        serving = msgspec.structs.replace(self.recipe.serving, layout=layout)
        return replace(self, recipe=msgspec.structs.replace(self.recipe, serving=serving))

    def with_recipe(self, recipe: Recipe, stages: Sequence[Stage] | None = None) -> Run:
        """Return the run with another recipe, and those of the stages that it has."""
        return replace(self, recipe=recipe, stages=_wanted(stages, recipe))

    def on(self, workers: int | None, scheduler: str | None) -> Run:
        """Return the run with its Dask work on a cluster; raise RecipeError where both are given."""
        if workers and scheduler:
            raise RecipeError("--workers starts a cluster and --scheduler joins one; give one of the two")
        return replace(self, cluster=Cluster(workers, scheduler))

    def fingerprint(self, stage: Stage) -> str | None:
        """Return the hash of all that `stage` depends on, or None if an earlier stage has not finished."""
        needs = {}
        for name in self.needs_of(stage):
            if not self.is_finished(self.stages[name]):
                return None
            needs[name] = self.record(name).id  # type: ignore[union-attr]  # finished, so there is one
        facts = {"stage": stage.name, "version": stage.version, "settings": stage.settings(self.recipe), "needs": needs}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def needs_of(self, stage: Stage) -> list[str]:
        """Return the names of the stages whose outputs a stage reads, as far as the recipe has them."""
        return [name for name in stage.needs if name in self.stages]

    def record(self, name: str) -> Record | None:
        """Return what stage `name` left when it last finished."""
        try:
            return msgspec.json.decode(self._record_path(name).read_bytes(), type=Record)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None

    def is_finished(self, stage: Stage) -> bool:
        """Whether the stage's outputs are there and were made from the present recipe and inputs."""
        record = self.record(stage.name)
        return (
            record is not None
            and all((self.directory / output).exists() for output in stage.outputs)
            and record.fingerprint == self.fingerprint(stage)
            and self._has_same_inputs(stage, record)
        )

    def require(self, *names: str) -> None:
        """Raise StageError for a stage that is missing or out of date."""
        for name in names:
            if not self.is_finished(self.stages[name]):
                state = "is out of date: it was made from something else" if self.record(name) else "has not been run"
                raise StageError(
                    f"{self.directory}: stage '{name}' {state}; run `retrieval run RECIPE`, which keeps what is current"
                )

    def execute(self, stage: Stage, cache: Path, progress: Progress) -> Record:
        """Run a stage whatever its state, and record that it finished. Call it inside `lock`.

        The record goes first and comes last: whenever this is interrupted, the stage counts as not run.
        """
        self.require(*self.needs_of(stage))
        self._record_path(stage.name).unlink(missing_ok=True)
        atomic_write(self.directory / RECIPE, msgspec.json.format(msgspec.json.encode(self.recipe), indent=2))
        start = time.monotonic()
        inputs = stage.inputs(self)  # before the work: what changes meanwhile makes the stage run again
        if self.watched is not None:
            self.watched[stage.name] = inputs
        # Absolute: workers of a cluster, and libraries that join paths, are elsewhere.
        stage.work(self.job(cache, progress))
        record = Record(
            id=uuid.uuid4().hex,
            fingerprint=self.fingerprint(stage) or "",
            inputs=inputs,
            seconds=round(time.monotonic() - start, 1),
            finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        atomic_write(self._record_path(stage.name), msgspec.json.format(msgspec.json.encode(record), indent=2))
        return record

    def job(self, cache: Path, progress: Progress) -> Job:
        """Return what a stage of the run gets to do its work."""
        return Job(replace(self, directory=self.directory.absolute()), cache, progress)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from writing to this run, and clear away what a killed one left half-written; raise
        StageError, which names it, where another has it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with writing(self.directory), (self.directory / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise StageError(f"{self.directory} is being written by {owner}; wait for it or stop it") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} ({' '.join(sys.argv[1:3])})")
            file.flush()
            self._remove_leftovers()
            yield
            file.truncate(0)

    def _has_same_inputs(self, stage: Stage, record: Record) -> bool:
        if self.watched is None:
            return True
        if stage.name not in self.watched:
            self.watched[stage.name] = stage.inputs(self)
        return bool(self.watched[stage.name] == record.inputs)

    def _remove_leftovers(self) -> None:
        # A dot for each directory that is written atomically within another that is.
        outputs = [output for stage in self.stages.values() for output in stage.outputs]
        written = re.compile(rf"\.+({'|'.join(map(re.escape, [*outputs, RECIPE]))})\..+")
        for leftover in [*self.directory.glob(".*"), *self.directory.glob("stages/.*")]:
            if leftover.parent.name == "stages" or written.fullmatch(leftover.name):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _record_path(self, name: str) -> Path:
        return self.directory / "stages" / f"{name}.json"


def _wanted(stages: Sequence[Stage] | None, recipe: Recipe) -> dict[str, Stage]:
    """Return the stages that a recipe has: of those given, else of all that there are."""
    if stages is None:
        from retrieval.runs.stages import STAGES  # which imports this module

        stages = STAGES
    return {stage.name: stage for stage in stages if stage.wanted(recipe)}


def advance(run: Run, names: Sequence[str], cache: Path, teller: Teller, force: bool = False) -> list[dict[str, Any]]:
    """Run the named stages in order, and keep those that are finished unless told to `force` it; those that the recipe
    does not have are passed over. Return of each its name, whether it was `kept`, its seconds and the paths of its
    outputs."""
    done = []
    names = [name for name in names if name in run.stages]
    with leading(run, names, cache.expanduser()) as lead, run.lock():
        for name in names:
            stage = run.stages[name]
            reused = not force and run.is_finished(stage)
            if reused:
                teller.say(f"{name}: kept, same inputs")
            else:
                with teller.working(name):
                    lead(name)
                    run.execute(stage, cache.expanduser(), teller.step)
            record = run.record(name)
            seconds = record.seconds if record else 0.0
            if not reused:
                teller.say(f"{name}: done in {seconds:.1f} s")
            outputs = [str(run.directory / output) for output in stage.outputs]
            done.append({"stage": name, "kept": reused, "seconds": seconds, "outputs": outputs})
    return done
