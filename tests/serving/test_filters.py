"""Filters: what they let through equals a plain reading of them, item by item, and what is wrong is said by name."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.release.attributes import DISTINCT, write_attributes
from ensemble.serving.errors import InvalidRelease, InvalidRequest
from ensemble.serving.files.lookup import IdTable
from ensemble.serving.files.release import Sealed
from ensemble.serving.search import filters as module
from ensemble.serving.search.attributes import Numbers, Tags, read_attributes
from ensemble.serving.search.filter_text import MAX_BYTES
from ensemble.serving.search.filtered_search import search_filtered
from ensemble.serving.search.filters import Filters
from ensemble.serving.search.search import ItemSearch, no_exclusions

GENRES = ("Comedy", "Drama", "Horror", "動画")
ITEMS = 120


def table(seed: int = 0, items: int = ITEMS) -> pd.DataFrame:
    """Return items with lists of text, text, integers, numbers and truth values, some of them missing."""
    rng = np.random.default_rng(seed)
    genres: list[Any] = [list(rng.choice(GENRES, rng.integers(0, 4))) for _ in range(items)]  # with repetitions
    genres[0] = None
    return pd.DataFrame(
        {
            "item_id": rng.permutation(items) * 7,
            "title": [f"Title {n}" for n in range(items)],
            "genres": genres,
            "brand": [None if rng.random() < 0.2 else f"brand {rng.integers(0, 5)}" for _ in range(items)],
            "shelves": [list(rng.integers(0, 3, 2)) for _ in range(items)],
            "year": np.where(rng.random(items) < 0.2, np.nan, rng.integers(1990, 2000, items)),
            "stock": rng.integers(0, 5, items),
            "new": rng.random(items) < 0.5,
            "labels": [[f"label {n}" for n in rng.integers(0, 150, 2)] for _ in range(items)],
        }
    )


def sealed(folder: Path) -> Sealed:
    """Return a directory as a release that lists what is in it."""
    return Sealed(folder, {"files": {path.relative_to(folder).as_posix(): "" for path in folder.rglob("*")}})


def compiled(filters: Filters, text: str, row: int) -> Any:
    """Return the filter of one row."""
    return filters.of_rows([""] * row + [text])[row]


class Scene:
    """A catalogue on disk, its search and its filters."""

    def __init__(self, folder: Path, items: pd.DataFrame, seed: int = 0) -> None:
        (folder / "items").mkdir()
        write_attributes(items, folder / "items")
        self.items = items
        self.attributes = read_attributes(sealed(folder), len(items))
        rng = np.random.default_rng(seed)
        self.vectors = rng.integers(-3, 4, (len(items), 4)).astype(np.float32)  # with ties
        self.live = rng.random(len(items)) < 0.9
        self.search = ItemSearch(self.vectors, live=self.live)
        self.filters = Filters(self.attributes, IdTable(items["item_id"].to_numpy()), self.search.mask, len(items))

    def answer(self, query: np.ndarray, k: int, filter_: Any, excluded: np.ndarray | None = None) -> list[int]:
        """Return the items that a query with a filter gets."""
        left_out = no_exclusions()[0] if excluded is None else excluded
        compiled_filter = compiled(self.filters, json.dumps(filter_), 0)
        result = search_filtered(self.search, query[None], np.array([k]), left_out * 0, left_out, [compiled_filter])
        count = int(result.count[0])
        assert (result.item_index[0, count:] == -1).all()
        assert np.isneginf(result.score[0, count:]).all()
        assert result.score[0, :count].tolist() == (self.vectors[result.item_index[0, :count]] @ query).tolist()
        return result.item_index[0, :count].tolist()

    def expected(self, query: np.ndarray, k: int, filter_: Any, excluded: np.ndarray) -> list[int]:
        """Return the same by reading the filter for one item after the other."""
        scores = self.vectors @ query
        order = sorted(range(len(self.items)), key=lambda item: (-scores[item], item))
        answer: list[int] = []
        counts: Counter[Any] = Counter()
        crowding = filter_.get("crowding", {"attribute": "stock", "limit": 10**6})
        for item in order:
            values = set(listed(self.items[crowding["attribute"]][item]))
            if (
                len(answer) < k
                and self.live[item]
                and item not in excluded
                and passes(self.items.iloc[item], filter_)
                and scores[item] >= filter_.get("min_score", -np.inf)
                and all(counts[value] < crowding["limit"] for value in values)
            ):
                answer.append(item)
                counts.update(values)
        return answer


def listed(cell: Any) -> list[Any]:
    if isinstance(cell, (list, np.ndarray)):
        return [value if isinstance(value, str) else str(value) for value in cell]
    return [] if cell is None or cell != cell else [cell]


def passes(item: pd.Series, filter_: Any) -> bool:
    """Return whether an item passes all but crowding and score."""
    tests = [item["item_id"] in filter_.get("allow", [item["item_id"]]), item["item_id"] not in filter_.get("deny", [])]
    for name, test in filter_.get("tags", {}).items():
        values = {"true" if tag is True else "false" if tag is False else str(tag) for tag in listed(item[name])}
        tests += [bool(values & {*test["any"]})] if "any" in test else []
        tests += [values >= {*test.get("all", [])}, not values & {*test.get("none", [])}]
    for name, ends in filter_.get("ranges", {}).items():
        tests.append(bool(ends.get("min", -np.inf) <= item[name] <= ends.get("max", np.inf)))
    return all(tests)


def values_of(*values: str) -> Any:
    test = st.lists(st.sampled_from(values), min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional={"any": test, "all": test, "none": test})


LABELS = sorted({label for labels in table()["labels"] for label in labels})
"""Of one item or a few: more or less than what is kept as a bitmap."""
ids = st.lists(st.integers(-1, ITEMS).map(lambda row: row * 7), max_size=60)
ends = st.sampled_from([{"min": 1993}, {"max": 1995.5}, {"min": 1992, "max": 1997}, {"min": 3000}])
documents = st.fixed_dictionaries(
    {},
    optional={
        "allow": ids,
        "deny": ids,
        "tags": st.fixed_dictionaries(
            {},
            optional={
                "genres": values_of(*GENRES),
                "brand": values_of("brand 1", "brand 2"),
                "shelves": values_of("1"),
                "labels": values_of(*LABELS),
            },
        ),
        "ranges": st.fixed_dictionaries({}, optional={"year": ends, "stock": st.just({"min": 1, "max": 3})}),
        "crowding": st.fixed_dictionaries(
            {"attribute": st.sampled_from(["genres", "brand", "year", "shelves", "new"]), "limit": st.integers(1, 4)}
        ),
        "min_score": st.sampled_from([-5.0, 0, 3, 100]),
    },
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A catalogue; do not change it."""
    return Scene(tmp_path_factory.mktemp("scene"), table())


@settings(max_examples=120)
@given(document=documents, seed=st.integers(0, 2**32), k=st.sampled_from([1, 5, 40, ITEMS + 10]))
def test_an_answer_is_what_a_plain_reading_of_the_filter_gives(scene: Scene, document: Any, seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    query = rng.integers(-3, 4, 4).astype(np.float32)
    excluded = rng.integers(0, ITEMS, int(rng.integers(0, 50)))
    assert scene.answer(query, k, document, excluded) == scene.expected(query, k, document, excluded)


def test_rows_of_a_batch_have_their_own_filters(scene: Scene) -> None:
    rng = np.random.default_rng(1)
    documents_: list[Any] = [
        None,
        {"tags": {"genres": {"any": ["Drama"]}}},
        {"crowding": {"attribute": "brand", "limit": 1}},
    ]
    documents_ += [{"min_score": 2}, documents_[1], {"allow": []}, {"deny": scene.items["item_id"].tolist()}]
    queries = rng.integers(-3, 4, (len(documents_), 4)).astype(np.float32)
    filters = [document and compiled(scene.filters, json.dumps(document), 0) for document in documents_]
    result = search_filtered(scene.search, queries, np.full(len(queries), 30), *no_exclusions(), filters)
    nobody = no_exclusions()[1]
    for row, document in enumerate(documents_):
        assert result.item_index[row, : result.count[row]].tolist() == scene.expected(
            queries[row], 30, document or {}, nobody
        )
    assert result.count[-2:].tolist() == [0, 0]


WRONG: dict[str, str] = {
    "{": "not JSON",
    '"text"': "expected an object",
    "[" * 100_000: "not JSON",
    '{"alow": []}': "unknown key 'alow'; the keys are allow, deny, tags",
    '{"allow": [1], "allow": [2]}': "'allow'.*twice|twice.*'allow'",
    '{"allow": 5}': "'allow': got 5, expected a list",
    '{"deny": ["7"]}': "'deny': got '7', expected item ids, which are 64-bit integers",
    '{"deny": [true]}': "'deny': got True",
    '{"deny": [99999999999999999999]}': "'deny': got 99999999999999999999",
    '{"tags": {"genre": {"any": ["Drama"]}}}': "no attribute of the release; expected an attribute of tags.* 'genres'",
    '{"tags": {"year": {"any": ["1990"]}}}': "'year': not an attribute of tags",
    '{"tags": {"genres": ["Drama"]}}': "'genres': got \\['Drama'\\], expected an object",
    '{"tags": {"genres": {"some": ["Drama"]}}}': "unknown key 'some'; the keys are any, all, none",
    '{"tags": {"genres": {"any": []}}}': "'any': got \\[\\], expected a list of 1 to",
    '{"tags": {"genres": {"any": "Drama"}}}': "'any': got 'Drama', expected a list",
    '{"tags": {"genres": {"none": ["Horor"]}}}': "'none': no item has 'Horor'; the values are such as 'Horror'",
    '{"tags": {"genres": {"any": ["\\ud800"]}}}': "no item has '\\\\ud800'",
    '{"ranges": {"year": {"min": "1990"}}}': "'year', 'min': got '1990', expected a finite number",
    '{"ranges": {"year": {"min": NaN}}}': "got NaN",
    '{"ranges": {"year": {"min": 1e400}}}': "'min': got inf",
    '{"ranges": {"year": {}}}': "expected 'min', 'max' or both",
    '{"ranges": {"year": {"min": 2, "max": 1}}}': "min <= max",
    '{"ranges": {"genres": {"min": 2}}}': "'genres': not a number; .* the release has 'year', 'stock'",
    '{"crowding": {"attribute": "genres"}}': '"limit": a whole number >= 1',
    '{"crowding": {"attribute": "genres", "limit": 0}}': "'crowding': got",
    '{"crowding": {"attribute": "colour", "limit": 1}}': "'crowding': no attribute.*'genres', 'brand'",
    '{"min_score": null}': "min_score: got None",
    '{"tags": ' + "9" * 5000 + "}": "filter",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:40])
def test_a_wrong_filter_is_refused_with_row_key_and_remedy(scene: Scene, text: str) -> None:
    with pytest.raises(InvalidRequest, match=WRONG[text]) as caught:
        compiled(scene.filters, text, 3)
    message = str(caught.value)
    assert message.startswith("column 'filter', row 3: ")
    assert len(message.encode()) < 600


def test_a_text_or_list_beyond_its_limit_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidRequest, match="a list of at most 10000 item ids"):
        compiled(scene.filters, json.dumps({"allow": [7] * 10_001}), 0)
    with pytest.raises(InvalidRequest, match="expected at most 1048576"):
        compiled(scene.filters, '{"allow": [' + " " * MAX_BYTES + "]}", 0)


def test_compiled_filters_are_kept_until_they_take_too_much(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [json.dumps({"allow": [7 * n]}) for n in range(50)]
    filters = Filters(scene.attributes, IdTable(scene.items["item_id"].to_numpy()), scene.search.mask, ITEMS)
    first = compiled(filters, texts[0], 0)
    assert compiled(filters, texts[0], 5) is first
    monkeypatch.setattr(module, "CACHE_BYTES", 20_000)
    results = [compiled(filters, text, 0) for text in texts]
    assert compiled(filters, texts[-1], 0) is results[-1]
    assert compiled(filters, texts[0], 0) is not first
    assert compiled(filters, texts[0], 0).mask.items.tolist() == first.mask.items.tolist()


def test_which_columns_are_attributes_is_said(tmp_path: Path) -> None:
    items = table(items=DISTINCT + 1).assign(
        released=pd.Timestamp("2020-01-01"), brand=[f"brand {n // 3}" for n in range(DISTINCT + 1)]
    )
    scene = Scene(tmp_path, items)
    kinds = {name: type(attribute) for name, attribute in scene.attributes.items()}
    assert kinds == {
        "genres": Tags,
        "brand": Tags,
        "labels": Tags,
        "shelves": Tags,
        "year": Numbers,
        "stock": Numbers,
        "new": Tags,
    }
    left_out = json.loads((tmp_path / "items/attributes.json").read_text())["left_out"]
    assert left_out == {"title": "1001 different values in 1001 entries", "released": "holds a Timestamp"}


def test_a_catalogue_without_attributes_can_be_released(tmp_path: Path) -> None:
    scene = Scene(tmp_path, table()[["item_id"]])
    assert scene.attributes == {}
    with pytest.raises(InvalidRequest, match="the release has none"):
        compiled(scene.filters, '{"tags": {"genres": {"any": ["Drama"]}}}', 0)


def test_a_column_of_nulls_matches_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, table().assign(genres=None, year=np.nan))
    query = np.ones(4, dtype=np.float32)
    assert scene.answer(query, 5, {"ranges": {"year": {"min": 0}}}) == []
    limited = {"crowding": {"attribute": "genres", "limit": 1}}
    assert scene.answer(query, 5, limited) == scene.answer(query, 5, {})


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("2.rows.npy", lambda array: array[:-1]),
        ("1.codes.npy", lambda array: array + 100),
        ("0.items.npy", lambda array: -array - 1),
        ("4.npy", lambda array: array[:5]),
        ("0.values.npy", lambda array: array[::-1].copy()),
    ],
)
def test_arrays_that_do_not_fit_are_refused_at_load(tmp_path: Path, file: str, change: Any) -> None:
    Scene(tmp_path, table())
    place = tmp_path / "items/attributes" / file
    np.save(place, change(np.load(place)))
    with pytest.raises(InvalidRelease, match="items/attributes/"):
        read_attributes(sealed(tmp_path), ITEMS)
    with pytest.raises(InvalidRelease, match="release it again"):
        read_attributes(sealed(tmp_path), ITEMS + 1)
