"""Hot swap of a release in a running server, as a new version of its models: no request fails, no answer mixes
releases.

Triton loads the new version beside the old one, which answers until the new one is ready, and then lets the old one
finish its requests. Chained models are loaded in both versions first; the Triton ensemble, whose steps name the
version, then switches at once. Meanwhile a journal names the live version: if the process is killed, the next start of
the server or the next deployment undoes the rest.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from ensemble.layouts import CHAINED, CONFIG, FUSED, ONNX, RANK, STEPS, models_in
from ensemble.release.sign import open_release
from ensemble.release.verify import admits, read_config
from ensemble.serving.files.release import MANIFEST, unverified_manifest
from ensemble.serving.search.candidates import has_ranker
from ensemble.serving.threads import most_instances
from ensemble.triton.model_control import ModelControl
from ensemble.triton.repository import write_version
from workflows.errors import ReleaseError, ServerError
from workflows.files import atomic_write, locked, own_alone, writing
from workflows.progress import Progress, silent

_JOURNAL = ".deploying"


def deploy(
    release: Path,
    repository: Path,
    control: ModelControl | None,
    progress: Progress = silent,
    version: int | None = None,
) -> int:
    """Make a release live in the server of a model repository; without `control` the next server to start serves it.

    Return the version that is live now; the one before stays on disk. `version` is by default the next one; one that
    exists already is served as it is, with the serving code of its time, so this is also the way to go back.

    Raises
    ------
    ReleaseError
        The release is damaged, or chained models of the live release take other inputs.
    ServerError
        There is no repository or no server, or the server refused the release (its self-test failed, say). The old
        release stays live.
    """
    name = str(unverified_manifest(release).get("release", ""))  # the code that opens it says what is wrong
    with _locked(repository, control):
        old = live_version(repository)
        new = version or max(versions_in(repository)) + 1
        written = not admits(repository, release, new) or not holds(repository, new, name)
        if written and new == old:
            raise ServerError(f"{repository}: version {new} is live and of another release than {release}")
        if written:
            progress(f"writing version {new}")
            with writing(repository):
                _write(release, repository, new)
            if not admits(repository, release, new):
                _remove(repository, [new])
                raise ReleaseError(f"{release}: changes while it is deployed; nothing was")
        if new == old:
            return new
        try:
            if control is not None:
                check_machine(repository, new)
            _go_over(repository, control, old, new, progress)
        except BaseException:
            _remove(repository, [new] if written else [])
            raise
        _remove(repository, set(versions_in(repository)) - {old, new})
        return new


def holds(repository: Path, version: int, release: str) -> bool:
    """Return whether the version of every model exists and holds the release of that id."""
    models = models_in(repository)
    present = [(repository / name / str(version) / CONFIG).is_file() for name in models]
    return bool(models) and all(present) and release_of(repository, version) == release


def _write(release: Path, repository: Path, version: int) -> None:
    opened = open_release(release)
    models = models_in(repository)
    if CHAINED in models and (RANK in models) != has_ranker(opened):
        raise ReleaseError(
            f"{release}: ranks its candidates, or does not, other than the release that is live, and chained models "
            "cannot change that while they run; export a repository of its own and serve that"
        )
    _remove(repository, [version])  # what one that was killed left of it
    with tempfile.TemporaryDirectory(prefix=f".{repository.name}.", dir=repository.parent) as staged:
        write_version(opened, Path(staged), models, version)
        own_alone(Path(staged))
        for model in models:
            (Path(staged) / model / str(version)).rename(repository / model / str(version))


def live_version(repository: Path) -> int:
    """Return the version that a server started on the repository would serve."""
    models = [name for name in models_in(repository) if name in (FUSED, CHAINED, ONNX)]
    if not models:
        raise ServerError(f"{repository}: no model repository; expected what `retrieval release` wrote")
    return int(read_config(repository / models[-1] / CONFIG).version_policy.specific.versions[-1])


def versions_in(repository: Path) -> list[int]:
    """Return the versions on disk, ascending."""
    directory = repository / models_in(repository)[-1]
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def release_of(repository: Path, version: int) -> str:
    """Return the id of the release in a version."""
    config = read_config(repository / models_in(repository)[-1] / str(version) / CONFIG)
    return str(config.parameters["release"].string_value)


def recover(repository: Path) -> None:
    """Undo a deployment that was killed half-way, so that a starting server serves what was live before."""
    if (repository / _JOURNAL).is_file():
        with deployment_lock(repository):
            _take_back(repository)


def _take_back(repository: Path) -> bool:
    """Make the version that the journal names live on disk; return whether there was a journal."""
    journal = repository / _JOURNAL
    if not journal.is_file():
        return False
    live = int(journal.read_text(encoding="utf-8"))
    for model in models_in(repository):
        atomic_write(repository / model / CONFIG, (repository / model / str(live) / CONFIG).read_bytes())
    journal.unlink()
    return True


def _go_over(repository: Path, control: ModelControl | None, old: int, new: int, progress: Progress) -> None:
    """Switch repository and server from one version to another; undo it if the server refuses."""
    if control is None:
        atomic_write(repository / _JOURNAL, str(new).encode())
        _take_back(repository)
        return
    models = models_in(repository)
    before, after = (
        {name: read_config(repository / name / str(version) / CONFIG) for name in models} for version in (old, new)
    )
    stages = _stages(before, after, old, new)
    atomic_write(repository / _JOURNAL, str(old).encode())
    done: list[str] = []
    try:
        for model, config in stages:
            progress(f"loading {model}, version {' and '.join(map(str, config.version_policy.specific.versions))}")
            done.append(model)
            _load(repository, control, model, config)
            if model == CHAINED:
                control.wait_until_unloaded(model, old)
    except BaseException:
        progress(f"going back to version {old}")
        for model in reversed(list(dict.fromkeys(done))):
            _load(repository, control, model, before[model])
        (repository / _JOURNAL).unlink()
        raise
    (repository / _JOURNAL).unlink()


def _load(repository: Path, control: ModelControl, model: str, config: ModelConfig) -> None:
    # By file: a configuration sent along would be forgotten as soon as an ensemble of the model is loaded.
    versions = config.version_policy.specific.versions
    own = repository / model / str(versions[0]) / CONFIG  # byte for byte as it was written, where it is of one version
    content = own.read_bytes() if len(versions) == 1 else text_format.MessageToString(config).encode()
    atomic_write(repository / model / CONFIG, content)
    control.load(model)


def _stages(
    before: dict[str, ModelConfig], after: dict[str, ModelConfig], old: int, new: int
) -> list[tuple[str, ModelConfig]]:
    """Return the model versions to load in each step, so that a model that answers always has those it needs."""
    steps = [name for name in STEPS if name in after]
    for name in steps:
        _check_interchangeable(before[name], after[name])
    both = [(name, _with_versions(after[name], [old, new])) for name in steps]
    return [
        *both,
        *((name, after[name]) for name in (FUSED, CHAINED) if name in after),
        *((name, after[name]) for name in steps),
    ]


def _check_interchangeable(before: ModelConfig, after: ModelConfig) -> None:
    """Raise ReleaseError where two versions of a chained model could not run side by side: Triton has one configuration
    for both.
    """
    for part in ("input", "output"):
        old, new = ({str(tensor) for tensor in getattr(config, part)} for config in (before, after))
        names = sorted(
            {tensor.name for config in (before, after) for tensor in getattr(config, part) if str(tensor) in old ^ new}
        )
        if names:
            raise ReleaseError(
                f"model '{after.name}': its {part} {', '.join(names)} is not as in the release that is live, and "
                "chained models cannot change that while they run; export a repository of its own and serve that"
            )


def _with_versions(config: ModelConfig, versions: Sequence[int]) -> ModelConfig:
    changed = ModelConfig()
    changed.CopyFrom(config)
    changed.version_policy.specific.versions[:] = sorted(versions)
    return changed


def check_machine(repository: Path, version: int | None = None) -> None:
    """Raise ServerError if a version (None: the live one) needs more processes or threads than this machine has."""
    folder, most = "" if version is None else str(version), most_instances()
    for model in models_in(repository):
        place = repository / model / folder / CONFIG
        release = repository / model / str(version or live_version(repository)) / "release"
        counts = {place: (sum(group.count for group in read_config(place).instance_group), "instances")}
        if release.is_dir():
            counts[release / MANIFEST] = (threads_of(release), "threads of an instance")
        for where, (count, what) in counts.items():
            if count > most:
                raise ServerError(
                    f"{where}: {count} {what}, more than {most}, the most for the processors of this machine; release "
                    "it again with fewer, or serve it on a larger one"
                )


def threads_of(release: Path) -> int:
    """Return the threads that a release asks for, unverified; 1 if it does not say."""
    serving = unverified_manifest(release).get("serving")
    threads = serving.get("threads") if isinstance(serving, dict) else None
    return threads if isinstance(threads, int) else 1  # the model says what is wrong with the release


def _remove(repository: Path, versions: Sequence[int] | set[int]) -> None:
    for model in models_in(repository):
        for version in versions:
            shutil.rmtree(repository / model / str(version), ignore_errors=True)


@contextmanager
def _locked(repository: Path, control: ModelControl | None) -> Iterator[None]:
    """Keep other deployments from the repository, and from the server that serves it."""
    live_version(repository)
    with deployment_lock(repository):
        taken_back = _take_back(repository)
        if control is not None:
            for model in models_in(repository) if taken_back else []:
                control.load(model)
            control.require(models_in(repository), live_version(repository))
        yield


def deployment_lock(repository: Path) -> AbstractContextManager[None]:
    """Lock the repository for a deployment; raise ServerError if another process holds the lock."""
    return locked(repository / ".lock", ServerError(f"{repository}: a deployment is under way; wait for it"))
