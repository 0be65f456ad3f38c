"""What can be done to a release: its files changed, and its manifest made right again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ensemble.release.write import listing
from ensemble.serving.files.release import manifest_text, pairing_of, release_id, vocabulary_of
from ensemble.serving.retriever import Retriever
from ensemble.serving.selftest import SelfTest

NOT_READ = ("item/", "items/columns/", "towers/item")
"""What serving does not look at: `retrieval items` does."""
PAIRINGS = ("towers/towers.json", "index/params.json", "ranking/params.json")
"""What says which training run it belongs to."""
Change = Callable[[bytes, Any], bytes]
_ODD = (None, True, -1, 0, 2**31, 2**70, 1e308, "", "../../outside", "\ud800", [], {}, [[[]]], "x" * 70)


def made_right(place: Path) -> None:
    """Rewrite the manifest over what lies there, pairing and all, as anyone who may write to a release can."""
    manifest = json.loads((place / "manifest.json").read_text())
    pairing = pairing_of(listing(place)["files"])
    for name in PAIRINGS:
        if not (place / name).exists():
            continue
        try:
            stated = json.loads((place / name).read_bytes())
            (place / name).write_text(json.dumps({**stated, "pairing": pairing}))
        except (ValueError, TypeError, RecursionError):
            continue  # is what was changed
    manifest = {**manifest, **listing(place), "pairing": pairing}
    manifest["vocabulary_sha256"] = vocabulary_of(manifest["files"])
    manifest["release"] = release_id(manifest)
    (place / "manifest.json").write_text(manifest_text(manifest))


def files_in(place: Path) -> list[Path]:
    """Return the files of a release, the manifest among them."""
    return sorted(path for path in place.rglob("*") if path.is_file())


def answers(place: Path) -> list[Any]:
    """Load a release as a model does, and return what it answers its sample queries, as JSON has it."""
    retriever = Retriever.load(place)
    test = SelfTest.load(retriever.release)
    test.check_features(retriever.features)
    test.check_vectors(retriever.tower.encode)
    test.check_answers(retriever)
    if retriever.ranker is not None:
        test.check_ranking(retriever.ranker)
    reply = retriever.answer(test.request()._replace(columns=test.columns()))
    return [reply.item_id.tolist(), reply.score.tolist(), reply.count.tolist(), reply.user_known.tolist()]


class Put:
    """A file with another content inside the block; all that hangs on it is as it was after the block."""

    def __init__(self, place: Path, path: Path, content: bytes) -> None:
        touched = {path, place / "manifest.json", *(place / name for name in PAIRINGS if (place / name).exists())}
        self._before = {file: file.read_bytes() for file in touched}
        self._path, self._content = path, content

    def __enter__(self) -> None:
        self._path.write_bytes(self._content)

    def __exit__(self, *_: object) -> None:
        for path, content in self._before.items():
            path.write_bytes(content)


def flipped(content: bytes, draw: Any) -> bytes:
    """Change some bytes."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    return bytes(changed)


def cut(content: bytes, draw: Any) -> bytes:
    """Leave bytes out."""
    start = draw(st.integers(0, len(content) - 1))
    return content[:start] + content[draw(st.integers(start + 1, len(content))) :]


def longer(content: bytes, draw: Any) -> bytes:
    """Put bytes in."""
    at = draw(st.sampled_from([0, len(content) // 2, len(content)]))
    return content[:at] + draw(st.binary(min_size=1, max_size=200)) + content[at:]


def numbered(content: bytes, draw: Any) -> bytes:
    """Write an odd number over eight or four bytes: sizes, offsets and codes are such."""
    at, width = draw(st.integers(0, max(0, len(content) - 8))), draw(st.sampled_from([4, 8]))
    number = draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1])) % 2 ** (8 * width)
    return content[:at] + number.to_bytes(width, "little") + content[at + width :]


def other_json(content: bytes, draw: Any) -> bytes:
    """Put an odd value, or none, in the place of one of a JSON document's."""
    document = json.loads(content)
    at: Any = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return content + b" "
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        if draw(st.integers(0, 4)):
            at[key] = draw(st.sampled_from(_ODD))
        else:
            del at[key]
        return json.dumps(document).encode("utf-8", "surrogatepass")


CHANGES: tuple[Change, ...] = (flipped, cut, longer, numbered)
