"""`retrieval release`, and a deployment into a running server, while the disk is full. Started by `files.py`.

With `--mount`, in a mount namespace of its own: a tmpfs at PLACE, filled so far that there is from no room at all to
nearly enough. Without, no file may be larger than a limit (RLIMIT_FSIZE), which fails in the same places.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc

from benchmarks.faults.files import artefacts
from benchmarks.faults.questions import Answer, Subject
from benchmarks.harness import served
from ensemble.client.channels import channel_options
from ensemble.deploy.swap import deploy
from ensemble.triton.model_control import ModelControl
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from workflows.errors import RetrievalError

_INPUTS = ("recipe.json", "metrics.json", "stages", "tables", "features", "towers")
_MADE = ("release", "triton")
_SIZE = 400 << 20
_PAGE = 4096


@dataclass
class Disk:
    """How much room there is at a place."""

    place: Path
    mounted: bool

    def __post_init__(self) -> None:
        """Make the small file system."""
        if self.mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(self.place)], check=True)

    @contextmanager
    def left(self, room: int) -> Iterator[None]:
        """Leave so many bytes of room inside the block."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return
        filler = self.place / ".filler"
        try:
            with filler.open("wb", buffering=0) as file:
                missing = shutil.disk_usage(self.place).free - room
                for start in range(0, missing, 1 << 20):
                    file.write(bytes(min(1 << 20, missing - start)))
            yield
        finally:
            filler.unlink()

    def used(self, *paths: Path) -> int:
        """Return what directories take together, or, where files are limited, their largest file."""
        sizes = [file.stat().st_size for path in paths for file in path.rglob("*") if file.is_file()]
        return sum(-(-size // _PAGE) * _PAGE for size in sizes) if self.mounted else max(sizes)


@dataclass
class Outcome:
    """What a command did on a full disk."""

    command: str
    room_mb: float
    exit: int
    error: str
    wrong: list[str] = field(default_factory=list)
    """What should not be: half-written files, a traceback, an error that does not say what to do."""


def main() -> None:
    """Do it and write what came of it to RESULT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("place", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--mount", action="store_true")
    options = parser.parse_args()
    disk = Disk(options.place, options.mount)
    run, whole = _copied(options.run, disk.place), _made(options.run)
    outputs, shares = [run / name for name in _MADE], np.linspace(0, 0.95, options.points)
    outcomes = [_released(disk, run, None, whole)]
    need, largest = disk.used(*outputs), max(map(disk.used, outputs))
    for share in shares:
        for path in outputs:
            shutil.rmtree(path, ignore_errors=True)
        outcomes.append(_released(disk, run, int(need * share), whole))
    outcomes.append(_released(disk, run, None, whole))
    # Over a finished one: each of the two is written beside the old one, which then goes.
    outcomes += [_released(disk, run, int(largest * share), whole) for share in shares[1::3]]
    outcomes.append(_released(disk, run, None, whole))
    outcomes += _deployed(disk, run, [need // 20, need // 3])
    refused = [outcome for outcome in outcomes if outcome.exit == 2]
    result = {
        "file_system": "tmpfs" if options.mount else "RLIMIT_FSIZE",
        "needs_mb": round(need / 1e6, 2),
        "commands": len(outcomes),
        "refused": len(refused),
        "wrong": [
            f"{outcome.command}, {outcome.room_mb} MB left: {wrong}" for outcome in outcomes for wrong in outcome.wrong
        ],
        "messages": list(dict.fromkeys(outcome.error for outcome in refused))[:4],
        "each": [asdict(outcome) for outcome in outcomes],
        "holds": not any(outcome.wrong for outcome in outcomes),
    }
    options.result.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _copied(source: Path, place: Path) -> Path:
    run = place / source.name
    run.mkdir()
    for name in _INPUTS:
        if (source / name).is_dir():
            shutil.copytree(source / name, run / name)
        else:
            shutil.copyfile(source / name, run / name)
    (run / "stages/release.json").unlink(missing_ok=True)
    return run


def _made(run: Path) -> dict[str, str]:
    """Return what the release and the model repository of a run hold, as far as they are there."""
    return {name: content for name, content in artefacts(run).items() if name.startswith(_MADE)}


def _released(disk: Disk, run: Path, room: int | None, whole: dict[str, str]) -> Outcome:
    """Run `retrieval release --force` with so much room; None: enough."""
    with nullcontext() if room is None else disk.left(room):
        outcome = _run(["release", run, "--force"], room)
    left = _made(run)
    for part in _MADE:
        actual, expected = (
            {name: content for name, content in files.items() if name.startswith(part)} for files in (left, whole)
        )
        if actual and actual != expected:
            outcome.wrong.append(f"{part}/ is not what it should be: {_differing(actual, expected)}")
    finished = Run.open(run, STAGES).is_finished(Run.open(run, STAGES).stages["release"])
    if finished != (outcome.exit == 0):
        outcome.wrong.append(f"the stage counts as {'finished' if finished else 'not run'}")
    outcome.wrong += [f"{path.name} is left over" for path in run.glob(".*") if path.name != ".lock"]
    return outcome


def _run(arguments: Sequence[object], room: int | None) -> Outcome:
    """Run a command of ours; enough room means that it has to succeed."""
    command = [sys.executable, "-m", "retrieval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    error = next((line for line in done.stderr.splitlines() if line.startswith("error:")), "")
    outcome = Outcome(str(arguments[0]), -1.0 if room is None else round(room / 1e6, 2), done.returncode, error)
    if room is None:
        outcome.wrong += [done.stderr[-300:]] if done.returncode else []
    elif done.returncode != 2:
        outcome.wrong.append(f"exit status {done.returncode}, expected 2: {done.stderr[-300:]}")
    elif "free" not in error:
        outcome.wrong.append(f"the error does not say what to do: {error}")
    return outcome


def _deployed(disk: Disk, run: Path, rooms: Sequence[int]) -> list[Outcome]:
    """Deploy the release into a running server of its repository; the server has to go on as it was."""
    repository, outcomes = run / "triton", []
    with served(repository) as server:
        address = server.addresses.grpc
        subject = Subject.of(address, run / "release")
        inputs = subject.inputs(subject.queries(1)[0])
        with ModelControl(address, repository) as control:
            for room in [*rooms, None]:
                before, known = artefacts(run), _asked(address, inputs)
                outcome = Outcome("deploy", -1.0 if room is None else round(room / 1e6, 2), 0, "")
                with nullcontext() if room is None else disk.left(room):
                    try:
                        deploy(run / "release", repository, control)
                    except RetrievalError as error:
                        outcome.exit, outcome.error = error.exit_code, str(error)[:400]
                    except Exception as error:
                        outcome.exit, outcome.error = 1, repr(error)[:400]
                _check_deployed(outcome, room, _differing(before, artefacts(run)))
                if known.differs(_asked(address, inputs)) is not None:
                    outcome.wrong.append("the server answers otherwise than before")
                outcome.wrong += [f"{path.name} is left over" for path in run.glob(".triton.*")]
                outcomes.append(outcome)
    return outcomes


def _differing(actual: dict[str, str], expected: dict[str, str]) -> list[str]:
    return sorted(name for name in {*actual, *expected} if actual.get(name) != expected.get(name))[:3]


def _check_deployed(outcome: Outcome, room: int | None, changed: list[str]) -> None:
    if outcome.exit != (0 if room is None else 2):
        outcome.wrong.append(f"it ended with {outcome.exit}: {outcome.error[-300:]}")
    if room is not None and changed:
        outcome.wrong.append(f"files changed: {changed}")
    if room is not None and "free" not in outcome.error:
        outcome.wrong.append(f"the error does not say what to do: {outcome.error}")


def _asked(address: str, inputs: list[object]) -> Answer:
    with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
        return Answer.of(channel.infer("retrieval", inputs))


if __name__ == "__main__":
    main()
