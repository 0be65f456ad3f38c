"""A release is read only if it is, byte for byte, what was released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.release.write import listing
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release, manifest_text, release_id, vocabulary_of
from ensemble.serving.files.schema import FORMAT
from ensemble.serving.retriever import Retriever
from tests.synthetic import Run, make_release, make_run


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    """A release of one's own, to damage."""
    return Path(shutil.copytree(release, tmp_path / "release"))


def refused(release: Path, *words: str) -> None:
    """Assert that the release is refused with a message that holds the words."""
    with pytest.raises(InvalidRelease) as caught:
        Release.open(release)
    for word in words:
        assert word in str(caught.value)


def reseal(release: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest and make its id fit again, as someone would who wants to get past the hashes."""
    sealed = {**json.loads((release / "manifest.json").read_text()), **listing(release)}
    sealed["vocabulary_sha256"] = vocabulary_of(sealed["files"])
    change(sealed)
    sealed["release"] = release_id(sealed)
    (release / "manifest.json").write_text(manifest_text(sealed))


def test_the_whole_release_is_accepted(copy: Path) -> None:
    assert Release.open(copy).manifest["counts"]["items"] == 300


def test_a_flipped_bit_in_any_file_is_refused_and_the_file_named(copy: Path) -> None:
    rng = np.random.default_rng(1)
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for position in {0, len(content) - 1, *rng.integers(0, len(content), 3).tolist()}:
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            refused(copy, str(path))
        path.write_bytes(content)
    Release.open(copy)


def test_every_byte_of_the_manifest_counts(copy: Path) -> None:
    path = copy / "manifest.json"
    text = path.read_text()
    for changed in (text.replace("\n", " ", 1), text + " ", text.replace('"top_k": 10', '"top_k": 11')):
        path.write_text(changed)
        refused(copy, "manifest.json")


def test_a_truncated_or_missing_file_is_refused(copy: Path) -> None:
    path = copy / "items/vectors.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(copy, "items/vectors.npy")
    path.unlink()
    refused(copy, "items/vectors.npy", "missing")


def test_a_file_that_is_not_listed_is_refused(copy: Path) -> None:
    (copy / "query/vocabulary/more.npy").write_bytes(b"")
    refused(copy, "more.npy", "not part of the release")


@pytest.mark.parametrize("name", ["towers/query.onnx", "query"])
def test_links_are_refused_even_to_the_right_content(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    refused(copy, name, "link")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "query/../../outside", "./query", "a\\..\\b"])
def test_paths_that_leave_the_release_are_refused(copy: Path, name: str) -> None:
    (copy.parent / "outside").write_bytes(b"")
    reseal(copy, lambda manifest: manifest["files"].update({name: "0" * 64}))
    refused(copy, "manifest.json", repr(name))


def test_a_newer_format_is_refused(copy: Path) -> None:
    reseal(copy, lambda manifest: manifest.update(format=FORMAT + 1))
    refused(copy, f"format {FORMAT + 1}")


def test_towers_and_index_of_two_runs_are_refused_even_when_resealed(copy: Path, run: Run, tmp_path: Path) -> None:
    kind = "string" if run.users["user_id"].dtype == object else "int64"
    other_release = make_release(make_run(tmp_path / "other", kind, seed=9))
    shutil.copyfile(other_release / "towers/query.onnx", copy / "towers/query.onnx")
    reseal(copy, lambda manifest: None)
    refused(copy, "pairing", "towers/")


def test_an_index_that_states_another_pairing_is_refused(copy: Path) -> None:
    path = copy / "index/params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pairing": "0" * 64}))
    reseal(copy, lambda manifest: None)
    refused(copy, "pairing", "index/params.json")


def test_other_vocabularies_than_the_stated_are_refused(copy: Path) -> None:
    reseal(copy, lambda manifest: manifest.update(vocabulary_sha256="0" * 64))
    refused(copy, "vocabularies")


def test_vectors_that_are_not_the_releases_items_are_refused(copy: Path) -> None:
    reseal(copy, lambda manifest: manifest.update(dim=8))
    with pytest.raises(InvalidRelease, match=r"towers\.json: dim is 16, that of the manifest 8"):
        Retriever.load(copy)


def test_nothing_in_a_release_is_a_pickle(release: Path) -> None:
    for path in release.rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype != object
