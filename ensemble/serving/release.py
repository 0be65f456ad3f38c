"""A release on disk: opened only if every byte is the one that the manifest vouches for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .errors import InvalidRelease

FORMAT = 1
MANIFEST = "manifest.json"
PAIRED = ("towers/query.onnx", "towers/item.onnx", "items/vectors.npy")
"""Query tower, item tower and item vectors of one training run; `pairing` is the SHA-256 of the three in this order."""
REQUIRED = (*PAIRED, "towers/towers.json", "index/params.json", "users/users.json", "items/attributes.json")
KEYS = ("release", "counts", "dim", "metric", "pairing", "vocabulary_sha256", "id_dtype", "serving", "files")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Sealed:
    """A directory that holds what its manifest lists and nothing else, every file verified."""

    path: Path
    manifest: Mapping[str, Any]

    def json(self, name: str) -> Any:
        """Parse one of the JSON files."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def array(self, name: str) -> np.ndarray:
        """Map one of the .npy files into memory, read-only; processes on one machine share its pages."""
        # As a plain array: every slice of a `memmap` costs microseconds more.
        return np.load(self.path / name, mmap_mode="r", allow_pickle=False).view(np.ndarray)

    def has(self, name: str) -> bool:
        """Return whether the manifest lists the file."""
        return name in self.manifest["files"]


@dataclass(frozen=True)
class Release(Sealed):
    """A verified release: its directory and its manifest."""

    @classmethod
    def open(cls, path: Path) -> Release:
        """Verify the release at `path` and return it.

        Raises
        ------
        InvalidRelease
            A file is missing, extra, a link, outside the directory or not what was released; the format is newer; the
            towers, vectors, index and vocabularies are not of one run. The message names file and reason.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links that are refused below
        manifest = read_manifest(path, FORMAT, "release", KEYS)
        verify(path, manifest["files"], REQUIRED)
        release = cls(path, manifest)
        release._check_parts()
        return release

    @property
    def origin(self) -> Mapping[str, Any]:
        """Return where the item vectors come from.

        `pairing`: of the training run. `lineage` and `sequence`: the release whose deltas are in here, and the number
        of the last of them (`package` is its id); a release that was not made of deltas is its own lineage, at 0.
        """
        own = {"pairing": self.manifest["pairing"], "lineage": self.manifest["release"], "sequence": 0}
        own["package"] = self.manifest["release"]
        return {**own, **self.manifest.get("derived_from", {})}

    @property
    def trained_items(self) -> int:
        """Return how many rows the towers were trained with: the first ones, to which histories refer."""
        counts = self.manifest["counts"]
        return int(counts.get("trained_items", counts["items"]))

    def _check_parts(self) -> None:
        # A derived release has other item vectors than its towers were exported with, and says so.
        pairing, trained = self.manifest["pairing"], self.origin["pairing"]
        stated = {
            "towers/towers.json": (self.json("towers/towers.json").get("pairing"), trained),
            "index/params.json": (self.json("index/params.json").get("pairing"), pairing),
            "towers/ and items/vectors.npy": (sha256_of([self.path / name for name in PAIRED]), pairing),
        }
        for place, (found, pairing) in stated.items():
            if found != pairing:
                raise InvalidRelease(
                    f"{self.path}: {place} has pairing {found}, the manifest {pairing}: "
                    "towers, vectors and index are not of one training run"
                )
        vocabulary = vocabulary_of(self.manifest["files"])
        if vocabulary != self.manifest["vocabulary_sha256"]:
            raise InvalidRelease(f"{self.path}: the vocabularies are not those that the towers were trained with")


def release_id(manifest: Mapping[str, Any], key: str = "release") -> str:
    """Return the id that the rest of the manifest, and so every file that it lists, determines."""
    content = {name: value for name, value in manifest.items() if name != key}
    return hashlib.sha256(manifest_text(content).encode()).hexdigest()[:32]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the one spelling of a manifest; any other is refused."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def vocabulary_of(files: Mapping[str, str]) -> str:
    """Return the SHA-256 over the query and item transforms, given the SHA-256 of every file by relative path."""
    parts = [f"{name} {digest}\n" for name, digest in sorted(files.items()) if name.startswith(("query/", "item/"))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def sha256_of(paths: list[Path]) -> str:
    """Return the SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def read_manifest(path: Path, format_: int, id_key: str, keys: Sequence[str]) -> dict[str, Any]:
    """Read the manifest of a directory; raise InvalidRelease unless it is of this format, complete and fits its id."""
    place = path / MANIFEST
    if place.is_symlink() or not place.is_file():
        raise InvalidRelease(f"{place}: missing; expected the directory that `retrieval release` wrote")
    try:
        text = place.read_bytes().decode("utf-8")
        manifest = json.loads(text)
    except ValueError as error:
        raise InvalidRelease(f"{place}: not JSON: {error}") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != format_:
        raise InvalidRelease(
            f"{place}: format {version!r}, this version reads format {format_}; release anew, or update"
        )
    if manifest.get(id_key) != release_id(manifest, id_key) or manifest_text(manifest) != text:
        raise InvalidRelease(
            f"{place}: the content does not fit the {id_key} id in it: it was changed after the release"
        )
    missing = [key for key in keys if key not in manifest]
    if missing:
        raise InvalidRelease(f"{place}: has no {', '.join(missing)}")
    return dict(manifest)


def verify(path: Path, files: Mapping[str, str], required: Sequence[str]) -> None:
    """Raise InvalidRelease unless the directory holds plain files, those that are listed, with the listed SHA-256."""
    _check_listing(path, files, required)
    for name, expected in files.items():
        if sha256_of([path / name]) != expected:
            raise InvalidRelease(f"{path / name}: the content is not what was released (SHA-256 differs)")


def _check_listing(path: Path, files: Mapping[str, str], required: Sequence[str]) -> None:
    for name in files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or str(pure) != name or "\\" in name:
            raise InvalidRelease(f"{path / MANIFEST}: lists '{name}', which is not a plain path inside the release")
    present = set(_walk(path))
    for name in (*required, *files):
        if name not in present or name not in files:
            raise InvalidRelease(f"{path / name}: missing from the release")
    for name in sorted(present - set(files)):
        if name != MANIFEST:
            raise InvalidRelease(f"{path / name}: not part of the release; remove it or release anew")


def _walk(path: Path) -> Iterator[str]:
    """Yield every file's path relative to the release, slashes forward; links of any kind are refused."""
    if path.is_symlink():
        raise InvalidRelease(f"{path}: is a symbolic link; expected the release directory itself")
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            place = Path(folder, name)
            if place.is_symlink() or not (place.is_dir() or place.is_file()):
                raise InvalidRelease(f"{place}: is a link or no plain file; a release holds plain files only")
        yield from (Path(folder, name).relative_to(path).as_posix() for name in names)
