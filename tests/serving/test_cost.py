"""What a request costs: in proportion to what differs in it, and refused before it is done where that is too much."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import serialize_byte_tensor

from ensemble.config import Index
from ensemble.serving.errors import InvalidRequest
from ensemble.serving.files.lookup import IdTable
from ensemble.serving.retriever import Retriever
from ensemble.serving.search import attributes as module
from ensemble.serving.search.attributes import Groups, Tags
from ensemble.serving.search.budget import Budget, TooMuch
from ensemble.serving.search.filters import Filters
from ensemble.serving.search.search import ItemSearch
from ensemble.serving.triton.tensors import Reader, input_tensors
from ensemble.serving.triton.texts import text_reader
from tests.synthetic import make_release, make_run

ITEMS = 100_000
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def tags() -> Tags:
    """Two values that half of the items have each."""
    codes = (np.arange(ITEMS) % 2).astype(np.int32)
    members = np.argsort(codes, kind="stable").astype(np.int32)
    bounds = np.array([0, ITEMS // 2, ITEMS])
    return Tags(np.array(["even", "odd"], dtype=object), Groups(np.arange(ITEMS + 1), codes), bounds, members)


@pytest.fixture
def filters(tags: Tags) -> Filters:
    """Of the items with these tags."""
    search = ItemSearch(np.zeros((ITEMS, 2), dtype=np.float32))
    return Filters({"parity": tags}, IdTable(np.arange(ITEMS)), search.mask, ITEMS)


def compiled(filters: Filters, text: str, row: int) -> Any:
    """Return the filter of one row."""
    return filters.of_rows([""] * row + [text])[row]


def peak(work: Callable[[], Any]) -> int:
    """Return the bytes that some work holds at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("test", ["any", "all", "none"])
def test_a_tag_costs_the_same_however_often_it_is_repeated(filters: Filters, tags: Tags, test: str) -> None:
    results: list[Any] = []
    text = json.dumps({"tags": {"parity": {test: ["odd"] * 1000}}})
    assert peak(lambda: results.append(compiled(filters, text, 0))) < MEGABYTE
    mask = results[0].mask
    assert mask.count == ITEMS // 2
    assert mask.bits[0] == (test == "none")


def test_a_tags_bitmap_is_made_once_and_kept_within_bounds(filters: Filters, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    packed = module.packed
    monkeypatch.setattr(module, "packed", lambda rows, items: sizes.append(len(rows)) or packed(rows, items))
    for row in range(20):
        compiled(filters, json.dumps({"tags": {"parity": {"any": ["odd", "even"]}}, "min_score": row}), row)
    assert len(sizes) <= 2
    monkeypatch.setattr(module, "BITMAP_BYTES", 1)
    assert compiled(filters, '{"tags": {"parity": {"all": ["odd", "even"]}}}', 0).mask.count == 0


def test_equal_filters_of_a_batch_are_compiled_once_whatever_is_kept(
    filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.serving.search.filters.CACHE_BYTES", 0)
    texts = ['{"deny": [1]}', "", '{"deny": [1]}']
    first, none, again = filters.of_rows(texts)
    assert first is again
    assert none is None


def test_filters_that_take_too_long_together_are_refused_before_one_is_compiled(
    filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [json.dumps({"deny": [row], "allow": [row, row + 1]}) for row in range(20)]
    budget = Budget(1e6)
    filters.of_rows(lists, budget)
    filters._cache.clear()
    compiled: list[int] = []
    monkeypatch.setattr(Filters, "_compile", lambda *_: compiled.append(1))
    with pytest.raises(TooMuch, match="row 19: "):
        filters.of_rows(lists, Budget(budget._spent * 0.99))
    assert not compiled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" + "{}," * 300_000 + "{}]", "more than 1000 objects"),
        ('{"deny": [' + "1," * 400_000 + "1]}", "'deny': got 400001 of them"),
        ('{"tags": {"parity": {"any": ["' + "o" * 900_000 + '"]}}}', "no item has 'oooo"),
        ('{"tags": {"parity": {"any": ["od"]}}}', "such as 'odd'"),
    ],
)
def test_a_refusal_costs_and_says_little_however_long_the_filter_is(filters: Filters, text: str, expected: str) -> None:
    def refused() -> None:
        with pytest.raises(InvalidRequest, match=expected) as caught:
            compiled(filters, text, 0)
        assert len(str(caught.value)) < 400

    assert peak(refused) < 8 * MEGABYTE


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """A release of a few thousand items."""
    run = make_run(tmp_path_factory.mktemp("cost"), items=5000)
    return Retriever.load(make_release(run, Index(kind="ivf_flat", nlist=40, nprobe=4)))


def asked(retriever: Retriever, budget: Budget | None = None, rows: int = 32, **inputs: Any) -> Any:
    """Answer one request of some rows."""
    sent = {"user_id": np.full((rows, 1), -1, dtype=np.int64), **inputs}
    return retriever.answer(retriever.reader.read([sent], budget), budget)


def texts(*documents: Any) -> np.ndarray:
    """Return filters as they are sent."""
    return np.array([[json.dumps(document).encode()] for document in documents], dtype=object)


def expensive(retriever: Retriever) -> dict[str, dict[str, np.ndarray]]:
    """Return requests of 32 rows, each expensive in another way."""
    ids = retriever.item_ids[:-1]
    many = np.tile(ids[:400], (32, 1))
    return {
        "exclude_item_ids": {"exclude_item_ids": many},
        "allow": {"filter": texts(*({"allow": ids[row : row + 2000].tolist()} for row in range(32)))},
        "crowding": {"filter": texts(*[{"crowding": {"attribute": "genres", "limit": 1}}] * 32)},
        "ranges": {"filter": texts(*({"ranges": {"year": {"min": 1990 + row / 9}}} for row in range(32)))},
        "top_k": {"top_k": np.full((32, 1), 400, dtype=np.int32)},
    }


@pytest.mark.parametrize("kind", ["exclude_item_ids", "allow", "crowding", "ranges", "top_k"])
def test_too_much_work_is_refused_with_the_numbers_before_it_is_done(
    retriever: Retriever, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = expensive(retriever)[kind]
    budget = Budget(1e6)
    answer = asked(retriever, budget, **sent)
    milliseconds = budget._spent / 2
    unlimited = asked(retriever, None, **sent)
    assert answer.item_index.tolist() == unlimited.item_index.tolist()
    searched: list[int] = []
    monkeypatch.setattr(ItemSearch, "_answer", lambda *_: searched.append(1))
    retriever.catalogue.filters._cache.clear()
    with pytest.raises(TooMuch, match=rf"row \d+: .* ms, more than the {milliseconds:.0f} ms .* fewer rows"):
        asked(retriever, Budget(milliseconds), **sent)
    assert not searched


@pytest.fixture(scope="module")
def reader_of_texts(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """A release whose query has a text that is split into words."""
    run = make_run(tmp_path_factory.mktemp("texts"))
    directory = run.path / "features/query_transform"
    stated = json.loads((directory / "transform.json").read_text(encoding="utf-8"))
    stated["inputs"].append({"name": "about", "dtype": "string", "list": False})
    step = {"op": "text", "input": "about", "output": "about", "vocabulary": "about", "max_length": 4, "ngrams": 3}
    stated["steps"].append(step)
    stated["outputs"].append({"name": "about", "dtype": "int64", "list": True, "max_length": 4})
    (directory / "transform.json").write_text(json.dumps(stated), encoding="utf-8")
    run.users.assign(about="a").to_parquet(run.path / "features/users.parquet")
    np.save(directory / "vocabulary/about.utf8.npy", np.frombuffer(b"a", dtype=np.uint8))
    np.save(directory / "vocabulary/about.offsets.npy", np.array([0, 1], dtype=np.int64))
    return Retriever.load(make_release(run))


def test_long_texts_are_refused_before_their_words_are_looked_for(
    reader_of_texts: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest text that a request may have took 60 ms for each row, and counted for nothing."""
    about = np.array([[b"a " * 32_000]] * 64, dtype=object)
    assert asked(reader_of_texts, Budget(1000), 2, about=about[:2]).count.tolist() == [10, 10]
    read: list[Any] = []
    monkeypatch.setattr("ensemble.serving.query.kinds.text.tokens", lambda *arguments: read.append(arguments) or [])
    with pytest.raises(TooMuch, match=r"row \d+: .* more than the 1000 ms"):
        asked(reader_of_texts, Budget(1000), 64, about=about)
    assert not read


def test_long_texts_in_a_list_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of them took two seconds, and counted as the few thousand entries that it is."""
    inputs = input_tensors(
        [{"name": "liked", "dtype": "string", "list": True}], {"user_id": "int64", "item_id": "int64"}
    )
    reader = Reader(inputs, {"top_k": 10, "max_top_k": 10, "max_exclude_item_ids": 10})
    sent = {"user_id": np.array([[1], [2]]), "liked": np.array([[b"x" * 60_000] * 5000] * 2, dtype=object)}
    few = {**sent, "liked": sent["liked"][:, :50]}
    assert len(reader.read([few], Budget(1000)).columns["liked"].values) == 100
    monkeypatch.setattr("ensemble.serving.triton.tensors._plain", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(TooMuch, match=r"row 0: up to here .* more than the 1000 ms"):
        reader.read([sent], Budget(1000))


def test_one_row_that_leaves_much_out_does_not_widen_the_search_of_the_others(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[tuple[int, int]] = []
    block = ItemSearch._block

    def counted(self: ItemSearch, held: int, fetch: int, plan: Any, group: Any) -> Any:
        asked_for.append((len(group.queries), fetch))
        return block(self, held, fetch, plan, group)

    monkeypatch.setattr(ItemSearch, "_block", counted)
    search, rng = retriever.search, np.random.default_rng(0)
    queries = rng.normal(size=(8, search.vectors.shape[1])).astype(np.float32)
    left_out = rng.permutation(5000)[:400]
    answer = search.nearest(queries, np.full(8, 10), np.full(400, 3), left_out)
    assert not np.isin(answer.item_index[3], left_out).any()
    (rest, few), (single, many) = sorted(asked_for, reverse=True)
    assert (rest, single) == (7, 1)
    assert few < 100 < 400 < many


def test_texts_are_read_as_they_were_sent_and_more_than_there_is_time_for_are_not_read() -> None:
    sent = np.array([[b"item-1", b"", b"\x00"], [b"caf\xc3\xa9", b"x" * 70_000, b" "]], dtype=object)
    encoded = np.frombuffer(serialize_byte_tensor(sent).item(), dtype=np.uint8)
    assert text_reader(6)(encoded).reshape([2, 3]).tolist() == sent.tolist()
    many = np.frombuffer(b"\x02\x00\x00\x00ab" * 100_000, dtype=np.uint8)
    assert peak(lambda: text_reader(99_999)(many).reshape([100, 1000])) < MEGABYTE
    assert peak(lambda: text_reader(100_000)(many).reshape([100, 1000])) > MEGABYTE
