"""Faults while artefacts are written: stages killed at random moments, and a disk that is full."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq

from benchmarks.faults.forks import Forks
from benchmarks.faults.work import Work
from benchmarks.harness import ROOT
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES

ARTEFACTS = ("tables", "features", "towers", "metrics.json", "release", "triton")
_MOMENTS = (
    *("created", "finished", "generated_timestamp", "seconds", "fit_seconds", "search_seconds"),
    *("release", "pairing", "files", "bytes"),
)
"""Keys of JSON files that say when something was made or how long it took, and ids that depend on it, or on the names
of an ONNX graph's nodes; the files themselves are compared."""
_NOT_COMPARED = (".lock", "towers/cost.json", "workflow.pkl")
"""What holds nothing, how long it took, and names of temporary directories (NVTabular's pickle, which stays in the run;
what it was fitted to is in files beside it, and in the transforms compiled from it, which are compared)."""
_KILLS = {"fetch": 3, "features": 3, "train": 2, "evaluate": 2, "release": 3}
"""How often each stage of one run is killed before it may end."""
_RELEASE = re.compile(r'key: "release" value \{ string_value: "\w+" \}')
_WORKER = "benchmarks.faults.disk"


def killed_stages(work: Work) -> dict[str, Any]:
    """Kill a run in every stage in turn, many times in all, resume it, and compare what it ends with.

    What it has to end with is what a run of the same recipe makes that nobody disturbs.
    """
    recipe, scratch = work.runs.recipe("tables.toml", "faults-shop"), work.scratch
    times, seed = work.times(work.options.kills, 5), work.options.seed
    draw, forks, name = random.Random(seed), Forks(), load_recipe(recipe).name
    whole = scratch / "whole"
    if _resumed(forks, recipe, whole):
        raise RuntimeError(f"{recipe}: the run that nobody disturbed failed")
    expected = artefacts(whole / name)
    seconds = {stage.name: _seconds(whole / name, stage.name) for stage in STAGES if stage.name in _KILLS}
    work.say(f"undisturbed: {len(expected)} files; seconds by stage {seconds}")
    killed, chains, different, half = dict.fromkeys(seconds, 0), 0, dict[str, list[str]](), list[str]()
    while sum(killed.values()) < times:
        runs = scratch / f"chain-{chains}"
        for stage in [name for name in seconds for _ in range(_KILLS[name])]:
            if sum(killed.values()) < times:
                killed[stage] += _killed_in(forks, recipe, runs, stage, draw.uniform(0, 1.1 * seconds[stage]))
                half += _half_written(runs / name)
        status = _resumed(forks, recipe, runs)
        written = artefacts(runs / name)
        names = sorted(file for file in {*expected, *written} if expected.get(file) != written.get(file))
        names += [*_left_over(runs / name), *([f"exit status {status}"] if status else [])]
        if names:
            different[runs.name] = names
            work.say(f"{runs.name} is not as it should be: {names[:5]}")
        shutil.rmtree(runs)
        chains += 1
        work.say(f"killed {sum(killed.values())}/{times}, {chains} runs resumed to their end, {len(different)} differ")
    return {
        "kills": sum(killed.values()),
        "kills_by_stage": killed,
        "runs_resumed_to_the_end": chains,
        "files_compared": len(expected),
        "runs_that_differ": different,
        "half_written": half,
        "seed": seed,
        "holds": not different and not half,
    }


def _seconds(run: Path, stage: str) -> float:
    return float(json.loads((run / f"stages/{stage}.json").read_bytes())["seconds"])


def _resumed(forks: Forks, recipe: Path, runs: Path) -> int:
    """Run what is due, to the end; return the exit status."""
    process, pipe = forks.start(recipe, runs)
    with pipe:
        process.join()
    return int(process.exitcode)


def _killed_in(forks: Forks, recipe: Path, runs: Path, stage: str, after_s: float) -> int:
    """Kill a run so long after it began the stage, or the next that is due; return how often it was killed: 0 or 1."""
    names = [known.name for known in STAGES]
    process, pipe = forks.start(recipe, runs)
    with pipe, suppress(EOFError):
        while names.index(pipe.recv()) < names.index(stage):
            pass
        process.join(after_s)
        process.kill()
    process.join()
    return int(process.exitcode == -signal.SIGKILL)


def _half_written(directory: Path) -> list[str]:
    """Return the outputs that are there but not whole, or recorded but not there."""
    if not (directory / "recipe.json").is_file():
        return []
    run, wrong = Run.open(directory, STAGES), []
    for stage in STAGES:
        for output in stage.outputs:
            path = directory / output
            if run.is_finished(stage) and not path.exists():
                wrong.append(f"{stage.name}: finished without {output}")
            elif path.is_dir() and not any(path.iterdir()):
                wrong.append(f"{stage.name}: {output} is empty")
    return wrong


def _left_over(directory: Path) -> list[str]:
    return [path.name for path in directory.glob(".*") if path.name != ".lock"]


def artefacts(run: Path) -> dict[str, str]:
    """Return what the files of a run hold, by name: their hash, without the moments that JSON and Parquet tell."""
    files = {}
    for name in ARTEFACTS:
        paths = sorted((run / name).rglob("*")) if (run / name).is_dir() else [run / name]
        files.update({path.relative_to(run).as_posix(): _content(path) for path in paths if path.is_file()})
    return {
        name: content
        for name, content in files.items()
        if not name.endswith(_NOT_COMPARED) and "/tensorboard/" not in name
    }


def _content(path: Path) -> str:
    if path.suffix == ".json":
        return _hash(json.dumps(_timeless(json.loads(path.read_bytes())), sort_keys=True).encode())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return _hash(repr(table.schema.names).encode() + repr(table.to_pydict()).encode())
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return _hash(b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays)))
    if path.suffix == ".onnx":
        return _graph(onnx.load(str(path)).graph)
    if path.suffix == ".pbtxt":
        return _hash(_RELEASE.sub("", path.read_text(encoding="utf-8")).encode())
    return _hash(path.read_bytes())


def _graph(graph: Any) -> str:
    """Return what a graph computes with, whatever tf2onnx calls its nodes: kinds of nodes, constants, both ends."""
    kinds = [node.op_type for node in graph.node]
    constants = [_hash(onnx.numpy_helper.to_array(tensor).tobytes()) for tensor in graph.initializer]
    ends = [end.SerializeToString() for end in (*graph.input, *graph.output)]
    return _hash(repr([sorted(kinds), sorted(constants), ends]).encode())


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in _MOMENTS}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def full_disk(work: Work) -> dict[str, Any]:
    """Write a release to a small file system of its own that is filled to different points; see `disk.py`."""
    run, place, result = work.runs.first(), work.scratch / "small-disk", work.scratch / "disk.json"
    place.mkdir(parents=True)
    worker = [sys.executable, "-m", _WORKER, str(run), str(place), str(result), "--points", str(work.times(12, 3))]
    isolated = ["unshare", "--map-root-user", "--mount"]
    mounted = subprocess.run([*isolated, "mount", "-t", "tmpfs", "none", str(place)], capture_output=True, check=False)
    command = [*isolated, *worker, "--mount"] if mounted.returncode == 0 else worker
    work.say(
        "a tmpfs of its own" if mounted.returncode == 0 else "no file system can be mounted here: files are limited"
    )
    began = time.monotonic()
    environment = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    if done.returncode or not result.is_file():
        raise RuntimeError(f"{_WORKER} failed: {done.stderr[-2000:]}")
    outcome: dict[str, Any] = json.loads(result.read_bytes())
    work.say(f"{len(outcome['each'])} releases in {time.monotonic() - began:.0f} s")
    return outcome
