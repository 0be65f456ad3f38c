"""A Triton model repository that is, to the last byte, what this installation would export of signed releases.

A repository holds code beside the data, and Triton runs it: to serve only what is signed is to know the code as well.
It is compared with that of this installation; the configurations with those that it would write.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ensemble.layouts import CONFIG, models_in
from ensemble.release.sign import open_signed, public_keys
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release
from ensemble.triton.repository import ENTRY, files_of
from workflows.errors import ReleaseError
from workflows.files import atomic_write

_TRUSTED, _SINCE = ".trusted-{}.pem", ".since"
"""What is noted of a server that verifies: its public keys and, where it has one, its least time in a file beside."""
_CACHE = "__pycache__"


def check_repository(repository: Path, keys: Path, at_least: str | None = None) -> list[Release]:
    """Return the releases that a server on the model repository would load, each signed by one of the `keys`.

    None of them may have been made before `at_least`, where there is such a time.

    What Python left there (`__pycache__`: of a Triton that was started otherwise, say) is removed, for it would be run
    in place of the code. Files whose names begin with a dot are ours, or were being written when a process was killed;
    nothing reads them.

    Raises
    ------
    ReleaseError
        A release is not signed by one of these keys, or older than that; or something lies there that this
        installation would not export.
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
    """Note that the server on this port takes signed releases only, made at the time `at_least` or later: a deployment
    into the repository checks them."""
    public_keys(keys)
    note = repository / _TRUSTED.format(port)
    forget(repository, port)
    with suppress(OSError):  # a repository that cannot be written cannot be deployed to either
        if at_least is not None:
            atomic_write(note.with_suffix(_SINCE), at_least.encode())
        atomic_write(note, keys.read_bytes())


def forget(repository: Path, port: int) -> None:
    """Take the note back once the server has stopped."""
    note = repository / _TRUSTED.format(port)
    with suppress(OSError):
        for place in (note, note.with_suffix(_SINCE)):
            place.unlink(missing_ok=True)


def admits(repository: Path, release: Path, version: int) -> bool:
    """Return whether what the repository has as `version` of the release may be served as it is.

    Without a server that takes signed releases only, it may. Else the code must be that of this installation: the
    version is to be rewritten.

    Raises
    ------
    ReleaseError
        There is such a server, and the release is not signed as it wants.
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
    own, wanted = directory / "release", files_of(release, [model], version)[model]
    if ENTRY in wanted and own != release.path:
        _check_same(own, release)
    _remove_compiled(directory)
    _expect(directory, set(_files(directory, leave_out="release" if ENTRY in wanted else None)), wanted)
    for name, content in wanted.items():
        if (directory / name).read_bytes() != content:
            raise ReleaseError(f"{directory / name}: not as this installation exports it; export the repository again")


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_dir() or path.name[0] != "."}


def _remove_compiled(version: Path) -> None:
    """Remove the compiled code in a version; raise ReleaseError where that cannot be done."""
    for cache in (version / _CACHE, *version.glob(f"serving/**/{_CACHE}")):
        try:
            if cache.is_dir() or cache.is_symlink():
                shutil.rmtree(cache)
        except OSError as error:
            raise ReleaseError(f"{cache}: compiled code, which cannot be removed ({error}); remove it") from None


def _check_same(place: Path, release: Release) -> None:
    try:
        same = Release.open(place).manifest == release.manifest
    except InvalidRelease as error:
        raise ReleaseError(str(error)) from None
    if not same:
        raise ReleaseError(f"{place}: another release than {release.path}, of the same version; export both again")


def _served(model: Path, versions: set[str]) -> list[int]:
    """Return the versions that Triton loads of a model; its configuration must be that of one of them."""
    config = _parsed(model / CONFIG)
    named = [str(version) for version in config.version_policy.specific.versions]
    if not named or not set(named) <= versions or config != _parsed(model / named[-1] / CONFIG):
        raise ReleaseError(f"{model / CONFIG}: is not that of the version which it names; export the repository again")
    return [int(version) for version in named]


def _parsed(path: Path) -> Any:
    if path.is_symlink():
        raise ReleaseError(f"{path}: is a symbolic link")
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise ReleaseError(f"{path}: not a model configuration: {error}; export the repository again") from None


def _files(directory: Path, leave_out: str | None) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink():
            raise ReleaseError(f"{path}: is a symbolic link; a repository holds plain files only")
        if name.parts[0] != leave_out and not path.is_dir():
            yield name.as_posix()


def _expect(directory: Path, present: set[str], wanted: Iterable[str]) -> None:
    if different := sorted(present ^ set(wanted)):
        raise ReleaseError(
            f"{directory}: {different[0]} is missing or does not belong there; export the repository again with "
            "`retrieval release`"
        )
