"""A release on disk, opened only if every byte is what the manifest states.

Nothing but the manifest is parsed before the hashes are compared, and the manifest itself is checked value by value.
Its author can make the hashes right, but must not get further than wrong answers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from ..errors import InvalidRelease
from . import npy
from .parameters import Fields, parse_json, read_json, read_text, shown
from .schema import FORMAT, check_manifest

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""Ed25519 over the manifest's bytes, where the release is signed (`ensemble/release/sign.py`)."""
PAIRED = ("towers/query.onnx", "towers/item.onnx", "items/vectors.npy")
"""Query tower, item tower and item vectors of one training run; with the towers' tables, what `pairing_of` hashes."""
REQUIRED = (
    *PAIRED,
    *("towers/towers.json", "index/params.json", "users/users.json", "selftest.json"),
    *("items/attributes.json", "items/columns.json"),
    *("query/transform.json", "item/transform.json"),
    *("history/offsets.npy", "history/item_index.npy", "history/timestamp.npy"),
)
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 1 << 22


@dataclass(frozen=True)
class Folder:
    """A directory of JSON and .npy files, which a manifest need not list: a transform, before it is released."""

    path: Path
    mapped: ClassVar[bool] = True
    """Whether arrays are mapped from their files, or read."""

    def json(self, name: str) -> Any:
        """Parse one of the JSON files; raise InvalidRelease naming it where it is none."""
        return read_json(self._place(name))

    def fields(self, name: str) -> Fields:
        """Parse one of the JSON files, to be taken field by field."""
        return Fields(self.json(name), str(self.path / name))

    def array(self, name: str, *dtypes: type, dimensions: int = 1) -> np.ndarray:
        """Map one of the .npy files into memory, read-only; processes on one machine share its pages.

        Raises InvalidRelease: there is no such file in the release, or its array is of another type or has other
        dimensions.
        """
        place = self._place(name)
        array = npy.load(place, self.mapped)
        if array.dtype not in dtypes or array.ndim != dimensions:
            expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            raise InvalidRelease(
                f"{place}: {array.dtype} {array.shape}, expected {expected} of {dimensions} dimensions"
            )
        return array

    def header(self, name: str) -> npy.Header:
        """Read the header of one of the .npy files."""
        return npy.header_of(self._place(name))

    def has(self, name: str) -> bool:
        """Return whether there is such a file; raise InvalidRelease if a link to it leads elsewhere."""
        place = self.path / name
        if place.resolve().parent != self.path.resolve():
            raise InvalidRelease(f"{place}: leads out of the release")
        return place.is_file()

    def _place(self, name: str) -> Path:
        if not self.has(name):
            raise InvalidRelease(f"{self.path / name}: missing from the release")
        return self.path / name


@dataclass(frozen=True)
class Sealed(Folder):
    """A directory with exactly the files that its manifest lists, all of them verified."""

    manifest: Mapping[str, Any]

    def has(self, name: str) -> bool:
        """Return whether the manifest lists the file."""
        return name in self.manifest["files"]


@dataclass(frozen=True)
class Release(Sealed):
    """A verified release: its directory and its manifest."""

    @classmethod
    def open(cls, path: Path) -> Release:
        """Verify the release in a directory and return it.

        Parameters
        ----------
        path
            Directory of the release.

        Returns
        -------
        Release
            Its directory and its manifest.

        Raises
        ------
        InvalidRelease
            A file is missing, extra, a link, outside the directory or not what was released; the format is newer;
            towers, vectors, index and vocabularies are not of one run. The message names file and reason.
        """
        from .documents import check_documents  # whose readers import this module

        path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links that are refused below
        manifest = read_manifest(path, FORMAT, "release")
        check_manifest(Fields(manifest, str(path / MANIFEST)))
        verify(path, manifest, REQUIRED)
        release = cls(path, manifest)
        release._check_parts()
        check_documents(release)
        return release

    @property
    def origin(self) -> Mapping[str, Any]:
        """Return where the item vectors come from.

        `pairing`: the training run. `lineage` and `sequence`: the release whose deltas were applied, and the number of
        the last of them (`package` is its id). A release without deltas is its own lineage, at 0.
        """
        own = {"pairing": self.manifest["pairing"], "lineage": self.manifest["release"], "sequence": 0}
        own["package"] = self.manifest["release"]
        return {**own, **self.manifest.get("derived_from", {})}

    @property
    def trained_items(self) -> int:
        """Return the number of rows that the towers were trained with; they come first, and histories refer to them."""
        counts = self.manifest["counts"]
        return int(counts.get("trained_items", counts["items"]))

    def _check_parts(self) -> None:
        # A derived release has other item vectors than its towers were exported with, and says so.
        pairing, trained = self.manifest["pairing"], self.origin["pairing"]
        stated = {
            "towers/towers.json": (self.fields("towers/towers.json").digest("pairing"), trained),
            "index/params.json": (self.fields("index/params.json").digest("pairing"), pairing),
            "towers/ and items/vectors.npy": (pairing_of(self.manifest["files"]), pairing),
        }
        for place, (stated_pairing, pairing) in stated.items():
            if stated_pairing != pairing:
                raise InvalidRelease(
                    f"{self.path}: {place} has pairing {stated_pairing}, the manifest {pairing}: "
                    "towers, vectors and index are not of one training run"
                )
        vocabulary = vocabulary_of(self.manifest["files"])
        if vocabulary != self.manifest["vocabulary_sha256"]:
            raise InvalidRelease(f"{self.path}: the vocabularies are not those that the towers were trained with")


def release_id(manifest: Mapping[str, Any], key: str = "release") -> str:
    """Return the id: a hash over the rest of the manifest, and so over every file that it lists."""
    content = {name: value for name, value in manifest.items() if name != key}
    return hashlib.sha256(manifest_text(content).encode()).hexdigest()[:32]


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the canonical spelling of a manifest; any other one is refused."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def vocabulary_of(files: Mapping[str, str]) -> str:
    """Return the SHA-256 over the query and item transforms, given the SHA-256 of every file by relative path."""
    parts = [f"{name} {digest}\n" for name, digest in sorted(files.items()) if name.startswith(("query/", "item/"))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def paired(names: Iterable[str]) -> list[str]:
    """Return which of a release's files are those of one training run: towers, item vectors, the towers' tables."""
    return [*PAIRED, *sorted(name for name in names if name.startswith("towers/") and name.endswith(".npy"))]


def pairing_of(digests: Mapping[str, str]) -> str:
    """Return the id of a training run: SHA-256 over its files' SHA-256, which `digests` has by name, hexadecimal."""
    return hashlib.sha256("".join(digests[name] for name in paired(digests)).encode()).hexdigest()


def read_manifest(path: Path, format_: int, id_key: str) -> dict[str, Any]:
    """Read the manifest of a directory; raise InvalidRelease unless it has this format and is complete."""
    place = path / MANIFEST
    if place.is_symlink() or not place.is_file():
        raise InvalidRelease(f"{place}: missing; expected the directory that `retrieval release` wrote")
    text = read_text(place, _LARGEST_MANIFEST)
    manifest = parse_json(text, place)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != format_:
        raise InvalidRelease(
            f"{place}: format {shown(version)}, this version reads format {format_}; release it again, or update"
        )
    if not _is_as_written(manifest, id_key, text):
        raise InvalidRelease(
            f"{place}: the content does not fit the {id_key} id in it: it was changed after the release"
        )
    _check_files(Fields(manifest, str(place)))
    return dict(manifest)


def unverified_manifest(path: Path) -> dict[str, Any]:
    """Return what the manifest of a directory states, before anything is checked; empty if it is no JSON object."""
    try:
        manifest = read_json(path / MANIFEST)
    except InvalidRelease:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _is_as_written(manifest: Mapping[str, Any], id_key: str, text: str) -> bool:
    try:
        return bool(manifest.get(id_key) == release_id(manifest, id_key) and manifest_text(manifest) == text)
    except (ValueError, RecursionError):  # half a surrogate pair, or nested too deeply to be written
        return False


def _check_files(fields: Fields) -> None:
    """Check that a manifest has the SHA-256 and the size of each file, by path."""
    files, sizes = (fields.object(key) for key in ("files", "bytes"))
    for name in files.names:
        pure = PurePosixPath(name)
        if not pure.name or pure.is_absolute() or ".." in pure.parts or str(pure) != name or not _is_plain(name):
            raise fields.error(f"lists {shown(name)}, which is not a plain path inside the release")
        files.digest(name)
        sizes.integer(name, 0, 1 << 60)
    sizes.finish()


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable() and "\\" not in name and name not in (MANIFEST, SIGNATURE)


def verify(path: Path, manifest: Mapping[str, Any], required: Sequence[str] = ()) -> None:
    """Compare a directory with its manifest.

    Raises InvalidRelease: it does not hold plain files, those that are listed, with the listed size and SHA-256; or one
    of the .npy files is none.
    """
    files, sizes = manifest["files"], manifest["bytes"]
    _check_listing(path, files, required)
    for name, expected in sizes.items():
        if (size := (path / name).stat().st_size) != expected:
            raise InvalidRelease(f"{path / name}: {size} bytes, {expected} were released")
    for name, expected in files.items():
        if sha256_of(path / name) != expected:
            raise InvalidRelease(f"{path / name}: the content is not what was released (SHA-256 differs)")
    for name in files:
        if name.endswith(".npy"):
            npy.header_of(path / name)


def _check_listing(path: Path, files: Mapping[str, str], required: Sequence[str]) -> None:
    present = set(_walk(path))
    for name in (*required, *files):
        if name not in present or name not in files:
            raise InvalidRelease(f"{path / name}: missing from the release")
    for name in sorted(present - set(files)):
        if name not in (MANIFEST, SIGNATURE):
            raise InvalidRelease(f"{path / name}: not part of the release; remove it or release it again")


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
