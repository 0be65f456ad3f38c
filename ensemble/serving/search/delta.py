"""Catalogue changes for running servers: small sealed packages, numbered, in a directory that servers watch.

`DIR/<lineage>/00000007` is the seventh package that changes the release `lineage`, or a release derived from it. A
package is renamed into place, so it is complete or absent, and names its predecessor, so that none can be skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import InvalidRelease
from ..files.arrays import read_values
from ..files.parameters import Fields
from ..files.release import MANIFEST, Release, Sealed, read_manifest, verify
from ..files.schema import FILES, MOST_ROWS, Schema, choice, integer, taken

DELTA = "RETRIEVAL_DELTA"
"""Environment variable: the directory that the models of a server watch."""
FORMAT = 3
OPERATIONS = ("add", "update", "remove")
_DIGITS = 8
_SCHEMA: Schema = {
    "format": integer(FORMAT, FORMAT),
    **dict.fromkeys(("package", "lineage", "previous"), Fields.digest),
    "sequence": integer(1, 1 << 40),
    "operation": choice(*OPERATIONS),
    "items": integer(0, MOST_ROWS),
    "created": Fields.time,
    **FILES,
}


@dataclass(frozen=True)
class Delta(Sealed):
    """A verified package: its directory and its manifest."""

    mapped: ClassVar[bool] = False  # they are small, and the directory may be tidied while a server runs

    @classmethod
    def open(cls, path: Path) -> Delta:
        """Verify the package at `path` and return it; raise InvalidRelease with the file and the reason."""
        path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, which are refused
        manifest = read_manifest(path, FORMAT, "package")
        taken(Fields(manifest, str(path / MANIFEST)), _SCHEMA)
        verify(path, manifest)
        return cls(path, manifest)

    @property
    def removes(self) -> bool:
        """Return whether the items are removed; otherwise they are added or replaced."""
        return str(self.manifest["operation"]) == "remove"

    def ids(self, dtype: str) -> np.ndarray:
        """Return the items' ids, [m] of type "int64" or "string"; raise InvalidRelease if they do not fit."""
        values = read_values(self, "items/ids", dtype)
        kind: np.dtype = np.dtype(object if dtype == "string" else np.int64)
        wrong = values.shape != (self.manifest["items"],) or values.dtype != kind
        if wrong or len(set(values.tolist())) != len(values):
            raise InvalidRelease(f"{self.path}: expected {self.manifest['items']} distinct ids of type {dtype}")
        return values


class DeltaLog:
    """The packages of one release in a delta directory, read one after the other."""

    def __init__(self, directory: Path, release: Release) -> None:
        """Start after the packages that the release already contains; raise InvalidRelease without such a directory."""
        if not directory.is_dir():
            raise InvalidRelease(
                f"{directory}: no such directory; make it, or start the server without a delta directory"
            )
        origin = release.origin
        self.lineage, self.sequence, self.package = str(origin["lineage"]), int(origin["sequence"]), origin["package"]
        self.place = directory.absolute() / self.lineage
        self._refused: tuple[float, ...] | None = None
        self._next = str(self.path_of(self.sequence + 1))

    def path_of(self, sequence: int) -> Path:
        """Return the path of the package with that number."""
        return self.place / f"{sequence:0{_DIGITS}d}"

    def changed(self) -> bool:
        """Return whether there is a package to read, by one system call for the next one's name.

        Time stamps are not used, since two packages in quick succession could have the same. A package that was refused
        counts again once it has been replaced.
        """
        if not os.access(self._next, os.F_OK):
            return False
        return self._refused is None or self._refused != _identity(self._next)

    @contextmanager
    def following(self) -> Iterator[Delta]:
        """Yield the next package, verified. It counts as read if the block succeeds, and as refused if anything fails.

        Raises InvalidRelease: the package is damaged, of another release, or does not follow the last one.
        """
        self._refused = _identity(self._next)
        delta = Delta.open(Path(self._next))
        expected = {"lineage": self.lineage, "sequence": self.sequence + 1, "previous": self.package}
        for name, value in expected.items():
            if delta.manifest[name] != value:
                stated = delta.manifest[name]
                raise InvalidRelease(f"{delta.path}: {name} is {stated}, expected {value}; it belongs elsewhere")
        yield delta
        self.sequence, self.package, self._refused = self.sequence + 1, delta.manifest["package"], None
        self._next = str(self.path_of(self.sequence + 1))


def _identity(path: str) -> tuple[float, ...]:
    """Return what distinguishes a directory from another one of the same name, such as a corrected package."""
    identity: list[float] = []
    for place in (path, f"{path}/{MANIFEST}"):
        try:
            state = Path(place).stat()
        except OSError:
            continue
        identity += [state.st_ino, state.st_mtime_ns]
    return tuple(identity)
