"""Sign the release of a run, or what was made of one."""

from __future__ import annotations

from pathlib import Path

from retrieval.console import Terminal


def sign_source(source: Path, key: Path) -> str:
    """Sign the release of a run, or of what `retrieval items` wrote, wherever it lies there; return its id."""
    from ensemble.release.sign import copies_in
    from ensemble.release.sign import sign as write_signature
    from retrieval.runs.serving import release_of, repository_of

    return str(write_signature(release_of(source), key, copies_in(repository_of(source))).manifest["release"])


def sign_derived(source: Path, made: Path, key: Path | None, out: Terminal) -> None:
    """Sign what was made of the release at `source`; say so where that was signed and this is not."""
    from ensemble.release.sign import is_signed
    from retrieval.runs.serving import release_of

    if key is not None:
        sign_source(made, key)
    elif is_signed(release_of(source)):
        out.say(
            f"not signed, unlike {source}: before --verify takes it, `retrieval sign`, or do this again with --sign"
        )
