"""How far a running server's index is from its items: measured in the background, and again when the items change."""

from __future__ import annotations

from pathlib import Path

from ensemble.catalogue.changes import LiveItems
from ensemble.index.drift import Quality, measure
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release
from retrieval.explore.loaded.background import Background
from retrieval.runs.places import release_of


class Drift:
    """The index of a release under the changes in a directory."""

    def __init__(self, place: Path, delta: Path | None) -> None:
        self._place, self._delta = place, delta
        self._seen: tuple[int, int] | None = None
        self._found: Background[Quality] | None = None

    def look(self) -> Quality | str:
        """Return what was measured last, or why there is nothing; "" while it is measured for the first time."""
        if (seen := self._state()) != self._seen and (self._found is None or self._found.ready):
            self._seen, self._found = seen, Background(self._measure)
        if self._found is None or not self._found.ready:
            return ""
        return self._found.problem or self._found.result

    def wait(self) -> None:
        """Wait until what is being measured is there."""
        if self._found:
            self._found.wait()

    def _state(self) -> tuple[int, int]:
        """Return what changes with the release, and with every package of changes."""
        manifest, delta = release_of(self._place) / "manifest.json", self._delta
        written_ns = manifest.stat().st_mtime_ns if manifest.is_file() else 0
        return written_ns, sum(1 for _ in delta.iterdir()) if delta and delta.is_dir() else 0

    def _measure(self) -> Quality:
        if self._delta and not self._delta.is_dir():
            raise InvalidRelease(f"{self._delta}: no such directory; expected where `retrieval items` writes changes")
        return measure(LiveItems(Release.open(release_of(self._place)), self._delta))
