"""What the commands take for a release: a run, what `retrieval items` wrote, a version, a directory of versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.deploy.versions import METRICS, Versions, is_versions

if TYPE_CHECKING:
    from ensemble.deploy.compare import Candidate


def repository_of(source: Path) -> Path:
    """Return the Triton model repository of a run, of what `retrieval items` wrote, or of a directory of versions,
    where it is made to hold the current one; else `source` itself."""
    if is_versions(source):
        from ensemble.deploy.promote import settle

        versions = Versions(source)
        settle(versions, lambda _: None)
        return versions.repository
    return source / "triton" if _is_parent(source) else source


def release_of(source: Path) -> Path:
    """Return the release of a run, of what `retrieval items` wrote, or of a version; the current one of a directory of
    versions; else `source` itself."""
    if is_versions(source):
        versions = Versions(source)
        return versions.release_of(versions.current_number())
    return source / "release" if _is_parent(source) else source


def beside(source: Path) -> Path:
    """Return where releases that are derived from that of `source` are written."""
    is_home = is_versions(source) or _is_parent(source)
    return (source if is_home else source.parent) / "derived"


def candidate_of(source: Path) -> Candidate:
    """Open the release of a run, of a version, or the current one of a directory of versions, with its metrics.

    Raise ReleaseError where it is damaged or there is none, StageError where the run's evaluation or release is missing
    or was made from something else: its metrics are not the release's.
    """
    from ensemble.deploy.compare import Candidate
    from retrieval.runs.run import Run

    if is_versions(source):
        versions = Versions(source)
        return versions.candidate(versions.current_number())
    if (source / "recipe.json").is_file():
        Run.open(source).require("evaluate", "release")
    release = release_of(source)
    return Candidate.open(release, None if release == source else source / METRICS, str(source))


def sign(source: Path, key: Path) -> str:
    """Sign the release of a run, or of what `retrieval items` wrote, wherever it lies there; return its id."""
    from ensemble.release.sign import copies_in
    from ensemble.release.sign import sign as write_signature

    return str(write_signature(release_of(source), key, copies_in(repository_of(source))).manifest["release"])


def _is_parent(source: Path) -> bool:
    return (source / "recipe.json").is_file() or (source / "release/manifest.json").is_file()
