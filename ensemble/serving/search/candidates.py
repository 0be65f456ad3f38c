"""Whether a release ranks its candidates, and how many it retrieves for that; needs no onnxruntime."""

from __future__ import annotations

from ..files.release import Release

RANKER, SIDES, PARAMETERS = "ranking/ranker.onnx", "ranking/items.npy", "ranking/params.json"
_MOST = 1 << 16


def has_ranker(release: Release) -> bool:
    """Return whether the release ranks what it retrieves."""
    return release.has(RANKER)


def candidates_of(release: Release) -> int:
    """Return the minimum number of candidates; raise InvalidRelease if the ranker belongs to other towers."""
    stated = release.fields(PARAMETERS)
    stated.integer("format", 1, 1)
    if stated.digest("pairing") != release.origin["pairing"]:
        raise stated.error("pairing: the ranker was trained with other towers; release it again")
    return stated.integer("candidates", 1, _MOST)
