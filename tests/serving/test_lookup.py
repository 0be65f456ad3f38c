"""Lookups of ids, against a dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.release import columns
from ensemble.release.columns import write_lookup
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files import arrays
from ensemble.serving.files.arrays import read_known
from ensemble.serving.files.lookup import IdTable, Lookup, Strings, build_lookup, fits, row_finder
from ensemble.serving.files.release import Folder
from ensemble.serving.query.vocabulary import FIRST_KNOWN, NULL, UNSEEN, Vocabulary
from ensemble.serving.retriever import Answer, Retriever
from tests.synthetic import make_release, make_run

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-50, 50) | st.integers(0, 40).map(lambda n: n << 40)


def stored(words: list[str]) -> Strings:
    encoded = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint32)
    return Strings(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)


@given(st.lists(_WORDS, unique=True, max_size=60), st.lists(_WORDS | st.just("\ud800"), max_size=80))
def test_strings_have_the_rows_that_a_dictionary_gives(known: list[str], words: list[str]) -> None:
    table, ids = {word: row for row, word in enumerate(known)}, stored(known)
    words = [*words, *known]
    found_rows = row_finder(ids, build_lookup(ids))(words)
    assert found_rows.tolist() == [table.get(word, -1) for word in words]
    rows = np.arange(-len(known), len(known))
    assert ids[rows].tolist() == [known[row] for row in rows]


@given(st.lists(_NUMBERS, unique=True, max_size=200), st.lists(_NUMBERS, max_size=100), st.booleans())
def test_integers_have_the_rows_that_a_dictionary_gives(known: list[int], values: list[int], many: bool) -> None:
    table = {value: row for row, value in enumerate(known)}
    values = [*values, *known] * (1 + many)
    ids = np.array(known, dtype=np.int64)
    found_rows = row_finder(ids, build_lookup(ids))(np.array(values, dtype=np.int64))
    assert found_rows.tolist() == [table.get(value, -1) for value in values]
    codes = Vocabulary(IdTable(ids, build_lookup(ids))).encode(np.array(values, dtype=np.int64))
    assert codes.tolist() == [table.get(value, UNSEEN - FIRST_KNOWN) + FIRST_KNOWN for value in values]


def loaded(directory: Path, name: str, dtype: str) -> Vocabulary:
    return Vocabulary(read_known(Folder(directory), name, dtype))


def test_a_vocabulary_with_its_lookup_gives_the_codes_that_it_gives_without(tmp_path: Path) -> None:
    words = ["zółty", "", "a", "aa", "b"]
    save_words(tmp_path / "w", words)
    np.save(tmp_path / "n.npy", np.array([7, -7, 0, 2**62]))
    queried = [*words, None, "none"]
    without = loaded(tmp_path, "w", "string").encode(queried), loaded(tmp_path, "n", "int64").encode(np.arange(-8, 8))
    write_lookup(tmp_path / "w", least=0)
    write_lookup(tmp_path / "n", least=0)
    np.testing.assert_array_equal(loaded(tmp_path, "w", "string").encode(queried), without[0])
    np.testing.assert_array_equal(loaded(tmp_path, "n", "int64").encode(np.arange(-8, 8)), without[1])
    assert without[0].tolist() == [3, 4, 5, 6, 7, NULL, UNSEEN]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lookup: lookup._replace(order=lookup.order[:-1]),
        lambda lookup: lookup._replace(order=lookup.order + np.uint32(1)),
        lambda lookup: lookup._replace(order=lookup.order.astype(np.int64)),
        lambda lookup: lookup._replace(starts=lookup.starts[:-1]),
        lambda lookup: lookup._replace(starts=lookup.starts[::-1].copy()),
        lambda lookup: lookup._replace(starts=np.zeros_like(lookup.starts)),
    ],
)
def test_a_lookup_that_leads_elsewhere_is_refused(tmp_path: Path, damage: object) -> None:
    ids = np.arange(100)
    lookup = build_lookup(ids)
    assert fits(lookup, 100)
    broken = damage(lookup)  # type: ignore[operator]
    assert isinstance(broken, Lookup)
    assert not fits(broken, 100)
    for name, array in {"n": ids, "n.order": broken.order, "n.starts": broken.starts}.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(InvalidRelease, match=r"n\.order\.npy"):
        loaded(tmp_path, "n", "int64")


def save_words(stem: Path, words: list[str]) -> None:
    encoded = [word.encode() for word in words]
    np.save(stem.with_name(f"{stem.name}.utf8.npy"), np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.save(stem.with_name(f"{stem.name}.offsets.npy"), np.cumsum([0, *map(len, encoded)], dtype=np.int64))


@pytest.mark.parametrize("ids", ["int64", "string"])
def test_a_release_with_lookups_answers_as_one_without(
    ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, ids=ids)
    users: list[Any] = [*run.users["user_id"], "никто" if ids == "string" else 5]
    kind = object if ids == "string" else np.int64
    sent, excluded = (
        np.array([value.encode() if ids == "string" else value for value in values], dtype=kind)[:, None]
        for values in (users, run.items["item_id"][: len(users)])
    )

    def answers(looked_up: bool) -> Answer:
        retriever = Retriever.load(make_release(run))
        assert [retriever.release.has(f"{key}.order.npy") for key in ("users/user_id", "items/ids")] == [looked_up] * 2
        return retriever.answer(retriever.reader.read([{"user_id": sent, "exclude_item_ids": excluded}]))

    without = answers(False)
    monkeypatch.setattr(columns.write_lookup, "__defaults__", (0,))
    monkeypatch.setattr(arrays, "DICTIONARY", 0)
    for expected, actual in zip(without, answers(True), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert without.user_known.tolist() == [True] * (len(users) - 1) + [False]
