"""Sign the release of a run, or what was made of one."""

from __future__ import annotations

from pathlib import Path

from ensemble.release.sign import copies_in, is_signed
from ensemble.release.sign import sign as write_signature
from retrieval.console import Terminal
from retrieval.runs.places import release_of, repository_of


def sign_source(source: Path, key: Path) -> str:
    """Sign the release of a run, or of what `retrieval items` wrote, wherever it lies there; return its id."""
    return str(write_signature(release_of(source), key, copies_in(repository_of(source))).manifest["release"])


def sign_derived(source: Path, derived: Path, key: Path | None, out: Terminal) -> None:
    """Sign what was made of the release at `source`; say so where that was signed and this is not."""
    if key is not None:
        sign_source(derived, key)
    elif is_signed(release_of(source)):
        out.say(
            f"not signed, unlike {source}: before --verify takes it, `retrieval sign`, or do this again with --sign"
        )
