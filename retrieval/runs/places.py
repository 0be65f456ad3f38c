"""Where the release and the model repository are: in a run, in what `retrieval items` wrote, or among versions."""

from __future__ import annotations

from pathlib import Path

from ensemble.deploy.versions import Versions, is_versions


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


def _is_parent(source: Path) -> bool:
    return (source / "recipe.json").is_file() or (source / "release/manifest.json").is_file()
