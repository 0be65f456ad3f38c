"""Releases over time: numbered versions that never change, one of them current, and how each came to be so.

```
releases/
  1/ 2/ 3/        release/, metrics.json of its run, version.json
  current.json    which version is current, who made it so, when and why: replaced in one rename
  history.jsonl   every such turn, oldest first
  triton/         the Triton model repository of the current version; its versions are those numbers
```
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec

from ensemble.deploy.compare import Candidate, read_metrics
from ensemble.serving.files.release import Release, unverified_manifest
from workflows.errors import ReleaseError
from workflows.files import atomic_directory, atomic_write, json_bytes, locked

RELEASE, METRICS, ABOUT = "release", "metrics.json", "version.json"
CURRENT, HISTORY, REPOSITORY = "current.json", "history.jsonl", "triton"
_LOCK = ".lock"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a version becoming current."""

    action: Literal["promote", "rollback"]
    version: int
    release: str
    before: int | None
    """The previous current version."""
    when: str
    """UTC, ISO 8601."""
    who: str
    reason: str | None = None
    forced: tuple[str, ...] = ()
    """Objections, if it was forced."""
    figures: dict[str, float] = {}
    """Figures compared with the previous version."""
    server: str | None = None
    """The running server that was switched."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `version.json`."""

    version: int
    release: str
    source: str
    """Where it was copied from."""
    added: str
    """UTC, ISO 8601."""


class Versions:
    """The versions in a directory. Change them only inside `lock`."""

    def __init__(self, directory: Path) -> None:
        """Take a directory, which may be empty or missing."""
        self.directory = directory
        self.repository = directory / REPOSITORY

    def __str__(self) -> str:
        return str(self.directory)

    def numbers(self) -> list[int]:
        """Return the numbers of the kept versions, ascending."""
        if not self.directory.is_dir():
            return []
        names = [path.name for path in self.directory.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def release_of(self, number: int) -> Path:
        """Return the release of a version; raise ReleaseError if it is not kept."""
        if number not in self.numbers():
            existing = ", ".join(map(str, self.numbers())) or "none"
            raise ReleaseError(f"{self}: has no version {number}; kept: {existing}")
        return self.directory / str(number) / RELEASE

    def about(self, number: int) -> About:
        """Return what `version.json` says of a version."""
        return _read_file(self.release_of(number).parent / ABOUT, About)

    def candidate(self, number: int) -> Candidate:
        """Open a version; raise ReleaseError if it is damaged, or not the release that was added."""
        release = self.release_of(number)
        opened = Candidate.open(release, release.with_name(METRICS), f"version {number}")
        if opened.id != self.about(number).release:
            raise ReleaseError(f"{release}: is release {opened.id}, {self.about(number).release} was added")
        return opened

    def current(self) -> Turn | None:
        """Return the turn that made the current version current; None: there is none yet."""
        place = self.directory / CURRENT
        return _read_file(place, Turn) if place.is_file() else None

    def current_number(self) -> int:
        """Return the current version; raise ReleaseError if there is none."""
        turn = self.current()
        if turn is None:
            raise ReleaseError(f"{self}: no version is current; make one with `retrieval promote RUN {self}`")
        return turn.version

    def history(self) -> list[Turn]:
        """Return every turn, oldest first; the last one is `current`."""
        place, current = self.directory / HISTORY, self.current()
        lines = place.read_bytes().splitlines() if place.is_file() else []
        turns = [_read(place, line, Turn) for line in lines]
        # Of one that was killed between the two files, the pointer counts.
        return turns if current is None or turns[-1:] == [current] else [*turns, current]

    def before_current(self) -> int | None:
        """Return the version that the current one replaced when it was last promoted, if any."""
        current = self.current_number()
        promotions = [turn for turn in self.history() if turn.action == "promote" and turn.version == current]
        return promotions[-1].before if promotions else None

    def holding(self, release: str) -> int | None:
        """Return the newest version that holds the release of this id, if any."""
        return next((number for number in reversed(self.numbers()) if self.about(number).release == release), None)

    def metrics_of(self, pairing: str) -> Mapping[str, Any] | None:
        """Return the metrics of the training run whose towers have this pairing id, if a version has them.

        A version with a damaged manifest is passed over.
        """
        for number in reversed(self.numbers()):
            place = self.release_of(number)
            if unverified_manifest(place).get("pairing") == pairing:
                metrics = read_metrics(place.with_name(METRICS))
                if metrics is not None:
                    return metrics
        return None

    def add(self, candidate: Candidate) -> int:
        """Copy a release in as the next version; return its number. No number is used twice."""
        number = 1 + max([*self.numbers(), *(turn.version for turn in self.history())], default=0)
        about = About(version=number, release=candidate.id, source=candidate.source, added=now())
        with atomic_directory(self.directory / str(number)) as temporary:
            shutil.copytree(candidate.release.path, temporary / RELEASE)
            if Release.open(temporary / RELEASE).manifest["release"] != candidate.id:
                raise ReleaseError(f"{candidate.source}: changed while it was copied; try again")
            if candidate.metrics is not None:
                (temporary / METRICS).write_bytes(_pretty(candidate.metrics))
            (temporary / ABOUT).write_bytes(_pretty(about))
        return number

    def remove(self, numbers: list[int]) -> None:
        """Remove versions, each of them atomically."""
        for number in numbers:
            trash = (self.directory / str(number)).rename(self.directory / f".{number}.gone")
            shutil.rmtree(trash)

    def make_current(self, turn: Turn) -> None:
        """Make the turn's version the current one."""
        lines = [msgspec.json.encode(entry) + b"\n" for entry in [*self.history(), turn]]
        atomic_write(self.directory / CURRENT, _pretty(turn))
        atomic_write(self.directory / HISTORY, b"".join(lines))

    def prune(self, keep: int) -> list[int]:
        """Remove all versions but the `keep` newest, the current one and the one before it; return their numbers."""
        retained = {self.current_number(), self.before_current(), *(self.numbers()[-keep:] if keep else [])}
        removable = [number for number in self.numbers() if number not in retained]
        self.remove(removable)
        return removable

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the directory for changes, and remove what a killed process left half-written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        refusal = ReleaseError(f"{self}: another promotion or roll-back is under way; wait for it")
        with locked(self.directory / _LOCK, refusal):
            for half in self.directory.glob(".[0-9]*"):
                shutil.rmtree(half, ignore_errors=True)
            yield


def is_versions(directory: Path) -> bool:
    """Return whether the directory holds versions, with one of them current."""
    return (directory / CURRENT).is_file()


def now() -> str:
    """Return the time, UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _pretty(value: Any) -> bytes:
    return json_bytes(value, 2)


def _read_file(place: Path, kind: Any) -> Any:
    try:
        return _read(place, place.read_bytes(), kind)
    except OSError as error:
        raise ReleaseError(f"{place}: {error.strerror}; restore it from a copy, or remove the version") from None


def _read(place: Path, text: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise ReleaseError(f"{place}: {error}; restore it from a copy, for it was changed by hand") from None
