"""What the commands take for a release: a run, a version, a directory of versions, a derived release, a release."""

from __future__ import annotations

from pathlib import Path

from ensemble.deploy.compare import Candidate
from ensemble.deploy.versions import METRICS, Versions, is_versions
from retrieval.runs.places import release_of
from retrieval.runs.run import Run


def candidate_of(source: Path) -> Candidate:
    """Open the release of a run, of a version, or the current one of a directory of versions, with its metrics.

    Raises
    ------
    StageError
        The run's evaluation or release is missing or was made from something else: its metrics are not the release's.
    ReleaseError
        The release is damaged, or there is none.
    """
    if is_versions(source):
        versions = Versions(source)
        return versions.candidate(versions.current_number())
    if (source / "recipe.json").is_file():
        Run.open(source).require("evaluate", "release")
    release = release_of(source)
    return Candidate.open(release, None if release == source else source / METRICS, str(source))
