"""Tables that exist are valid; what is saved is what is loaded; merged items lose no interaction."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.errors import DataError
from workflows.tables import store as stored_tables
from workflows.tables.store import Tables, merge_items, open_tables, write_tables

Frames = dict[str, pd.DataFrame]


def put(table: str, column: str, row: int, value: object) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        values = frames[table][column].tolist()
        values[row] = value
        dtype = frames[table][column].dtype if isinstance(value, (int, float)) and value == value else None
        frames[table][column] = pd.Series(values, dtype=dtype)

    return change


def cast(table: str, column: str, dtype: str) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        frames[table][column] = frames[table][column].astype(dtype)

    return change


def drop(table: str, column: str) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        del frames[table][column]

    return change


def cut(table: str, rows: slice) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        frames[table] = frames[table].iloc[rows]

    return change


def named(user: str) -> Callable[[Frames], None]:
    """User 1 is called so."""

    def change(frames: Frames) -> None:
        for table in ("users", "interactions"):
            ids = frames[table]["user_id"].astype(str)
            frames[table]["user_id"] = ids.where(ids != "1", user)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("interactions", "timestamp"), ["interactions", "timestamp", "missing"]),
        (drop("users", "user_id"), ["users", "user_id", "missing"]),
        (drop("items", "title"), ["items", "title", "missing"]),
        (cut("users", slice(0)), ["users", "no rows"]),
        (cut("items", slice(1, None)), ["items", "index", "reset_index"]),
        (put("users", "user_id", 2, 1), ["users", "user_id", "unique", "row 2", "got 1"]),
        (put("items", "item_id", 3, 10), ["items", "item_id", "unique", "row 3", "got 10"]),
        (put("users", "user_id", 1, -(2**63)), ["users", "user_id", "row 1", "stands for no id"]),
        (cast("items", "item_id", "float64"), ["items", "item_id", "int64 or str", "float64"]),
        (cast("users", "user_id", "str"), ["interactions", "user_id", "int64", "str in users"]),
        (named("a\0b"), ["users", "user_id", "row 0", r"'a\x00b'", "NUL"]),
        (put("users", "user_id", 0, None), ["users", "user_id", "row 0", "present"]),
        (put("interactions", "user_id", 4, 99), ["interactions", "user_id", "row 4", "got 99", "an id of users"]),
        (put("interactions", "item_id", 5, 99), ["interactions", "item_id", "row 5", "got 99", "an id of items"]),
        (put("interactions", "rating", 2, float("inf")), ["interactions", "rating", "row 2", "inf", "finite"]),
        (cast("interactions", "rating", "float64"), ["interactions", "rating", "float32", "float64"]),
        (put("interactions", "timestamp", 1, -5), ["interactions", "timestamp", "row 1", "-5", ">= 0"]),
        (put("interactions", "timestamp", 3, 874965758000), ["timestamp", "row 3", "874965758000", "divide"]),
        (cast("interactions", "timestamp", "float64"), ["interactions", "timestamp", "int64 seconds", "float64"]),
        (put("items", "title", 1, None), ["items", "title", "row 1", "None", "str"]),
        (put("items", "genres", 2, None), ["items", "genres", "row 2", "list"]),
        (put("users", "gender", 0, b"F"), ["users", "gender", "row 0", "str or null"]),
    ],
)
def test_an_invalid_table_is_refused_with_table_column_row_value_and_expectation(
    frames: Frames, change: Callable[[Frames], None], words: list[str]
) -> None:
    change(frames)
    with pytest.raises(DataError) as caught:
        Tables(**frames)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)


def test_saved_tables_load_as_they_were_with_lists_nulls_and_other_scripts(frames: Frames, tmp_path: Path) -> None:
    Tables(**frames).save(tmp_path / "tables")
    loaded = Tables.load(tmp_path / "tables")
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(getattr(loaded, name), frame)
    assert [type(value) for value in loaded.items["genres"]] == [list] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]


def test_string_ids_are_kept_as_they_are(frames: Frames, tmp_path: Path) -> None:
    for table in frames.values():
        for column in table.columns.intersection(["user_id", "item_id"]):
            table[column] = "ñ" + table[column].astype(str)
    Tables(**frames).save(tmp_path / "tables")
    assert Tables.load(tmp_path / "tables").interactions["item_id"].tolist()[:2] == ["ñ10", "ñ30"]


def test_a_missing_or_damaged_file_is_named_with_the_command_that_makes_it(frames: Frames, tmp_path: Path) -> None:
    Tables(**frames).save(tmp_path)
    content = (tmp_path / "users.parquet").read_bytes()
    (tmp_path / "users.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"users\.parquet.*not a readable parquet.*retrieval fetch"):
        Tables.load(tmp_path)
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(DataError, match=r"users\.parquet.*no such file.*retrieval fetch"):
        Tables.load(tmp_path)


def test_a_saved_table_that_was_tampered_with_is_refused_with_its_directory(frames: Frames, tmp_path: Path) -> None:
    Tables(**frames).save(tmp_path)
    frames["users"].iloc[:2].to_parquet(tmp_path / "users.parquet", index=False)
    with pytest.raises(DataError, match=rf"^{tmp_path}: interactions: column 'user_id'.*got 3 in row 3"):
        Tables.load(tmp_path)


def test_merged_items_keep_the_first_id_and_every_interaction_in_order(frames: Frames) -> None:
    merged = merge_items(Tables(**frames), "title")
    assert merged.items["item_id"].tolist() == [10, 20, 40]
    assert merged.interactions["item_id"].tolist() == [10, 10, 20, 40, 10, 10]
    untouched = ["user_id", "rating", "timestamp"]
    pd.testing.assert_frame_equal(merged.interactions[untouched], frames["interactions"][untouched])
    assert frames["interactions"]["item_id"].tolist() == [10, 30, 20, 40, 10, 30], "the input was changed"


def test_items_are_one_where_all_columns_agree_and_remakes_stay_apart(frames: Frames) -> None:
    apart = merge_items(Tables(**frames), "title", "year")
    assert apart.items["item_id"].tolist() == [10, 20, 30, 40]
    pd.testing.assert_frame_equal(apart.interactions, frames["interactions"])
    frames["items"].loc[frames["items"]["item_id"] == 30, "year"] = 1990.0
    assert merge_items(Tables(**frames), "title", "year").items["item_id"].tolist() == [10, 20, 40]


def test_merging_on_an_unknown_or_a_list_column_is_refused(frames: Frames) -> None:
    with pytest.raises(DataError, match=r"no column 'name'.*title, year, genres"):
        merge_items(Tables(**frames), "name")
    with pytest.raises(DataError, match=r"'genres' holds lists"):
        merge_items(Tables(**frames), "genres")


@settings(max_examples=40)
@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=12),
    picks=st.lists(st.integers(0, 1000), min_size=1, max_size=30),
)
def test_merging_maps_each_interaction_to_the_first_item_of_equal_value_even_for_the_largest_ids(
    values: list[str | None], picks: list[int]
) -> None:
    ids = (2**63 - 1) - np.arange(len(values))
    rows = np.array(picks) % len(values)
    interactions = pd.DataFrame({"user_id": 1, "item_id": ids[rows], "rating": np.float32(1), "timestamp": 0})
    items = pd.DataFrame({"item_id": ids, "title": "t", "key": pd.Series(values, dtype=object)})
    tables = Tables(interactions.astype({"rating": np.float32}), pd.DataFrame({"user_id": [1]}), items)
    merged = merge_items(tables, "key")
    expected = [ids[row if values[row] is None else values.index(values[row])] for row in rows]
    assert merged.interactions["item_id"].tolist() == expected
    assert len(merged.items) == len({value for value in values if value is not None}) + values.count(None)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum), part_rows=st.integers(1, 7))
def test_parts_do_not_depend_on_the_chunks_and_hold_every_row_in_order(sizes: list[int], part_rows: int) -> None:
    rows = sum(sizes)
    whole = pd.DataFrame({"user_id": 1, "item_id": "i", "rating": np.float32(1), "timestamp": np.arange(rows)})
    whole = whole.astype({"rating": np.float32}).assign(note=[None] * (rows - 1) + ["x"])
    users, items = pd.DataFrame({"user_id": [1]}), pd.DataFrame({"item_id": ["i"], "title": ["t"]})
    ends = np.cumsum(sizes)
    chunks = (whole.iloc[end - size : end].reset_index(drop=True) for size, end in zip(sizes, ends, strict=True))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_tables, "PART_ROWS", part_rows)
        assert write_tables(Path(name) / "tables", chunks, users, items) == rows
        stored = open_tables(Path(name) / "tables")
        assert sum(stored.rows) == rows
        assert set(stored.rows[:-1]) <= {part_rows}
        pd.testing.assert_frame_equal(Tables.load(Path(name) / "tables").interactions, whole)


def test_a_bad_row_of_a_later_chunk_is_counted_over_all_chunks_and_nothing_is_left(
    frames: Frames, tmp_path: Path
) -> None:
    first = frames["interactions"]
    later = first.assign(item_id=[10, 30, 99, 40, 10, 30])
    for chunks, message in (
        ([first, first, later], r"item_id.*an id of items, got 99 in row 14;"),
        ([first, first.assign(extra=1)], r"row 6 and on have the columns .*extra"),
        ([first.assign(extra=1), first.assign(extra="a")], r"row 6 and on have another type.*extra"),
    ):
        with pytest.raises(DataError, match=message):
            write_tables(tmp_path / "tables", iter(chunks), frames["users"], frames["items"])
    assert list(tmp_path.iterdir()) == []
