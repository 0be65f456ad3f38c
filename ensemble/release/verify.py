"""Verification of a Triton model repository: it must be, byte for byte, what this installation exports of signed
releases.

A repository holds code beside the data, and Triton runs it, so the code is compared with that of this installation,
and each configuration with the one that it would write.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ensemble.layouts import CONFIG, ONNX, models_in
from ensemble.release.sign import open_release, open_signed, public_keys
from ensemble.serving.files.release import Release
from ensemble.triton.repository import ENTRY, files_of
from workflows.errors import ReleaseError, RetrievalError, ServerError
from workflows.files import atomic_write

_TRUSTED, _SINCE = ".trusted-{}.pem", ".since"
"""What is noted of a server that verifies: its public keys and, where it has one, its least time in a file beside."""
_CACHE = "__pycache__"


def check_repository(repository: Path, keys: Path, at_least: str | None = None) -> list[Release]:
    """Verify everything that a server on a model repository would load; return the releases, by ascending version.

    Each must be signed by one of the Ed25519 public keys in the PEM file `keys` and be `created` at `at_least` or
    later. Compiled Python (`__pycache__`, left by a Triton that was started otherwise) is removed, since Python would
    run it in place of the verified code. Files whose names begin with a dot are ours, or were left half-written by a
    process that was killed; nothing reads them.

    Raises
    ------
    ReleaseError
        A release is not signed by one of these keys, or older than `at_least`; or the repository holds something that
        this installation would not export.
    """
    models = models_in(repository)
    _expect(repository, _names(repository), models)
    releases: dict[int, Release] = {}
    for model in models:
        beside = _names(repository / model) - {CONFIG}
        if not all(name.isdecimal() and str(int(name)) == name for name in beside):
            raise ReleaseError(f"{repository / model}: holds {', '.join(sorted(beside))}; expected versions only")
        for version in _served(repository / model, beside):
            if version not in releases:
                releases[version] = open_signed(_release_in(repository, models, version), keys, at_least)
            _check_version(repository, model, version, releases[version])
    return [releases[version] for version in sorted(releases)]


def trust(repository: Path, port: int, keys: Path, at_least: str | None = None) -> None:
    """Record that the server on this port only takes releases signed by `keys` and created at `at_least` or later.

    Deployments into the repository check them against it.
    """
    public_keys(keys)
    note = repository / _TRUSTED.format(port)
    forget(repository, port)
    with suppress(OSError):  # a repository that cannot be written cannot be deployed to either
        if at_least is not None:
            atomic_write(note.with_suffix(_SINCE), at_least.encode())
        atomic_write(note, keys.read_bytes())


def forget(repository: Path, port: int) -> None:
    """Remove the record of a server that has stopped."""
    note = repository / _TRUSTED.format(port)
    with suppress(OSError):
        for place in (note, note.with_suffix(_SINCE)):
            place.unlink(missing_ok=True)


def admits(repository: Path, release: Path, version: int) -> bool:
    """Return whether the `version` of the release that the repository already holds may be served as it is.

    Where no server verifies signatures, it may. Otherwise its code must be that of this installation; False means that
    the version has to be written again.

    Raises
    ------
    ReleaseError
        A server verifies signatures, and the release is not signed as it demands.
    """
    for keys in sorted(repository.glob(_TRUSTED.format("*"))):
        since = keys.with_suffix(_SINCE)
        opened = open_signed(release, keys, since.read_text(encoding="utf-8") if since.is_file() else None)
        try:
            for model in models_in(repository):
                _check_version(repository, model, version, opened)
        except (ReleaseError, OSError):
            return False
    return True


def _release_in(repository: Path, models: Iterable[str], version: int) -> Path:
    for model in models:
        place = repository / model / str(version) / "release"
        if place.is_dir():
            return place
    raise ReleaseError(f"{repository}: version {version} has no release; export it again with `retrieval release`")


def _check_version(repository: Path, model: str, version: int, release: Release) -> None:
    directory = repository / model / str(version)
    own, expected = directory / "release", files_of(release, [model], version)[model]
    holds_release = ENTRY in expected or model == ONNX
    if holds_release and own != release.path:
        _check_same(own, release)
    _remove_compiled(directory)
    _expect(directory, set(_files(directory, leave_out="release" if holds_release else None)), expected)
    for name, content in expected.items():
        if (directory / name).read_bytes() != content:
            raise ReleaseError(f"{directory / name}: not as this installation exports it; export the repository again")


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_dir() or path.name[0] != "."}


def _remove_compiled(version: Path) -> None:
    """Remove compiled code from a version; raise ReleaseError if that is impossible."""
    for cache in (version / _CACHE, *version.glob(f"serving/**/{_CACHE}")):
        try:
            if cache.is_dir() or cache.is_symlink():
                shutil.rmtree(cache)
        except OSError as error:
            raise ReleaseError(f"{cache}: compiled code, which cannot be removed ({error}); remove it") from None


def _check_same(place: Path, release: Release) -> None:
    if open_release(place).manifest != release.manifest:
        raise ReleaseError(f"{place}: another release than {release.path}, of the same version; export both again")


def _served(model: Path, versions: set[str]) -> list[int]:
    """Return the versions of a model that Triton loads; its configuration must be that of one of them."""
    config = _parsed(model / CONFIG)
    named = [str(version) for version in config.version_policy.specific.versions]
    if not named or not set(named) <= versions or config != _parsed(model / named[-1] / CONFIG):
        raise ReleaseError(f"{model / CONFIG}: is not that of the version which it names; export the repository again")
    return [int(version) for version in named]


def _parsed(path: Path) -> Any:
    if path.is_symlink():
        raise ReleaseError(f"{path}: is a symbolic link")
    return read_config(path, ReleaseError)


def read_config(path: Path, refusal: type[RetrievalError] = ServerError) -> Any:
    """Read a `config.pbtxt`; raise `refusal` if it is not one."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise refusal(f"{path}: not a model configuration: {error}; export the repository again") from None


def _files(directory: Path, leave_out: str | None) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink():
            raise ReleaseError(f"{path}: is a symbolic link; a repository holds plain files only")
        if name.parts[0] != leave_out and not path.is_dir():
            yield name.as_posix()


def _expect(directory: Path, present: set[str], expected: Iterable[str]) -> None:
    if different := sorted(present ^ set(expected)):
        raise ReleaseError(
            f"{directory}: {different[0]} is missing or does not belong there; export the repository again with "
            "`retrieval release`"
        )
