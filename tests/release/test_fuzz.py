"""Whatever is done to a release, it is refused with the file's name, or it does no harm.

Two kinds of attackers. One changes files: the hashes tell. The other rewrites the manifest, so that every hash fits:
then headers, shapes, sizes and values are looked at before a library of others sees the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release
from tests.hostile import CHANGES, NOT_READ, Put, answers, files_in, made_right, other_json


@pytest.fixture(scope="module")
def right(place: Path) -> list[Any]:
    """What the release answers before anything is done to it."""
    return answers(place)


@settings(max_examples=40)
@given(data=st.data())
def test_a_change_of_any_file_is_refused_by_its_name(place: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files_in(place)))
    content = path.read_bytes()
    changed = data.draw(st.sampled_from(CHANGES))(content, data.draw)
    with Put(place, path, changed):
        if changed == content:
            Release.open(place)
            return
        with pytest.raises(InvalidRelease) as caught:
            Release.open(place)
    assert str(path) in str(caught.value)


@settings(max_examples=40)
@given(data=st.data())
def test_a_change_with_every_hash_made_right_is_refused_or_harmless(
    place: Path, right: list[Any], data: st.DataObject
) -> None:
    """Refused, or it answers: as before, but for what was changed in the very data that it answers with."""
    path = data.draw(st.sampled_from(files_in(place)))
    kinds = (*CHANGES, other_json, other_json, other_json) if path.suffix == ".json" else CHANGES
    with Put(place, path, data.draw(st.sampled_from(kinds))(path.read_bytes(), data.draw)):
        try:
            made_right(place)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            assert path.name == "manifest.json"  # nothing that a manifest could be made of
        try:
            answered, reason = answers(place), str(place)
        except InvalidRelease as error:
            answered, reason = [], str(error)
    assert str(place) in reason
    if answered and path.relative_to(place).as_posix().startswith(NOT_READ):
        assert answered == right
