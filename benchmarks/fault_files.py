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
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from retrieval.run import Run
from retrieval.stages import STAGES

ARTEFACTS = ("tables", "features", "towers", "metrics.json", "release", "triton")
_MOMENTS = ("created", "finished", "seconds", "step_seconds", "release")
"""Keys of JSON files that say when something was made or how long it took; a release's id depends on when, too."""
_RELEASE = re.compile(r'key: "release" value \{ string_value: "\w+" \}')
_WORKER = Path(__file__).with_name("fault_disk.py")


def killed_stages(recipe: Path, reference: Path, scratch: Path, times: int, seed: int, say: Any) -> dict[str, Any]:
    """Kill `retrieval run` in every stage in turn, `times` times in all, resume it, and compare what it ends with.

    `reference` is the undisturbed run of the same recipe.
    """
    draw, expected = random.Random(seed), artefacts(reference)
    seconds = {
        stage.name: json.loads((reference / f"stages/{stage.name}.json").read_bytes())["seconds"] for stage in STAGES
    }
    killed, chains, different, half = dict.fromkeys(seconds, 0), 0, dict[str, list[str]](), []
    while sum(killed.values()) < times:
        runs = scratch / f"chain-{chains}"
        for name in seconds:
            if sum(killed.values()) == times:
                break
            command = _command(recipe, runs)
            killed[name] += _killed_in(name, draw.uniform(0, 1.1 * seconds[name]), command)
            half += _half_written(runs / reference.name)
        done = subprocess.run(_command(recipe, runs), capture_output=True, text=True, check=False)
        found = artefacts(runs / reference.name) if done.returncode == 0 else {"run": done.stderr[-400:]}
        found.update({name: "left over" for name in _left_over(runs / reference.name)})
        names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if names:
            different[runs.name] = names
        else:
            shutil.rmtree(runs)
        chains += 1
        say(f"killed {sum(killed.values())}/{times}, {chains} runs resumed to their end, {len(different)} differ")
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


def _command(recipe: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "retrieval", "run", str(recipe), "--runs", str(runs)]


def _killed_in(stage: str, after_s: float, command: list[str]) -> int:
    """Start the run and kill it so long after it began the stage; return how many times it was killed: 0 or 1."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"{stage} ..."):
                timer = threading.Timer(after_s, process.kill)
                timer.start()
                process.stderr.read()
                process.wait()
                timer.cancel()
                return int(process.returncode == -signal.SIGKILL)
    return 0


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
    found = {}
    for name in ARTEFACTS:
        paths = sorted((run / name).rglob("*")) if (run / name).is_dir() else [run / name]
        found.update({path.relative_to(run).as_posix(): _content(path) for path in paths if path.is_file()})
    return {name: content for name, content in found.items() if "tfevents" not in name and not name.endswith(".lock")}


def _content(path: Path) -> str:
    if path.suffix == ".json":
        return _hash(json.dumps(_timeless(json.loads(path.read_bytes())), sort_keys=True).encode())
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return _hash(repr(table.schema.names).encode() + repr(table.to_pydict()).encode())
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return _hash(b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays)))
    if path.suffix == ".pbtxt":
        return _hash(_RELEASE.sub("", path.read_text(encoding="utf-8")).encode())
    return _hash(path.read_bytes())


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in _MOMENTS}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def full_disk(run: Path, scratch: Path, points: int, say: Any) -> dict[str, Any]:
    """Write a release to a small file system of its own that is filled to different points; see `fault_disk.py`."""
    place, result = scratch / "small-disk", scratch / "disk.json"
    place.mkdir(parents=True)
    worker = [sys.executable, str(_WORKER), str(run), str(place), str(result), "--points", str(points)]
    isolated = ["unshare", "--map-root-user", "--mount"]
    mounted = subprocess.run([*isolated, "mount", "-t", "tmpfs", "none", str(place)], capture_output=True, check=False)
    command = [*isolated, *worker, "--mount"] if mounted.returncode == 0 else worker
    say("a tmpfs of its own" if mounted.returncode == 0 else "no file system can be mounted here: files are limited")
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "300"})
    if done.returncode or not result.is_file():
        raise RuntimeError(f"{_WORKER.name} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.read_bytes())
    say(f"{len(found['each'])} releases in {time.monotonic() - began:.0f} s")
    return found
