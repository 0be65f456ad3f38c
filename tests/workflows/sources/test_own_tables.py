"""The user's own tables arrive as they are, from CSV as from parquet; bad rows are refused or counted, never lost."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.config import Categorical, FeatureSide, LeaveLastOutSplit, OwnTables, RandomSplit, located
from workflows.errors import DataError, RecipeError
from workflows.features.stage import build, load
from workflows.sources import state
from workflows.sources.own_tables import source as own_tables
from workflows.sources.own_tables.types import guess
from workflows.tables.store import Tables, open_tables
from workflows.tables.undated import check_dated

COLUMNS = {"user_id": "who did it", "item_id": "what", "timestamp": "when", "rating": "stars"}


def config(directory: Path, suffix: str = "csv", **options: Any) -> OwnTables:
    tables = {
        table: {"path": str(directory / f"{table}.{suffix}"), **options.pop(table, {})}
        for table in ("interactions", "users", "items")
        if table == "interactions" or (directory / f"{table}.{suffix}").exists()
    }
    return msgspec.convert({"source": "tables", **tables, **options}, OwnTables)


def read(source: OwnTables, out: Path) -> tuple[Tables, dict[str, Any]]:
    own_tables.fetch(source, out, lambda line: None).save(out)
    return Tables.load(out), json.loads((out / "source.json").read_text(encoding="utf-8"))


def put(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)
"""Commas, quotes, line breaks, any script."""
IDS = st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), TEXT)


@settings(max_examples=8)
@given(
    ids=st.sampled_from([TEXT, st.integers(-(2**63) + 1, 2**63 - 1)]).flatmap(
        lambda id_: st.lists(st.tuples(id_, id_), min_size=1, max_size=12)
    ),
    unit=st.sampled_from(["seconds", "milliseconds", "nanoseconds"]),
    seed=st.integers(0, 99),
)
def test_rows_are_the_same_from_csv_and_parquet_whatever_ids_are_made_of(
    ids: list[tuple[Any, Any]], unit: str, seed: int
) -> None:
    dice = np.random.default_rng(seed)
    kind = "string" if isinstance(ids[0][0], str) else "integer"
    times = dice.integers(0, 4 * 10**9, len(ids))
    factor = {"seconds": 1, "milliseconds": 10**3, "nanoseconds": 10**9}[unit]
    counts = [None if count == 0 else int(count) for count in dice.integers(0, 3, len(ids))]
    frame = pd.DataFrame(
        {
            "who did it": [user for user, _ in ids],
            "what": [item for _, item in ids],
            "when": times * factor + dice.integers(0, factor, len(ids)),
            "stars": dice.integers(1, 6, len(ids)) / 2,
            "n": pd.array(counts, dtype="Int64"),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        frame.to_parquet(directory / "interactions.parquet", index=False)
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        put(directory / "interactions.csv", list(frame.columns), rows)
        types = {"user_id": kind, "item_id": kind, "n": "integer"}
        options = {"interactions": {"columns": COLUMNS, "types": types}, "timestamp_unit": unit}
        loaded = [read(config(directory, suffix, **options), directory / suffix)[0] for suffix in ("csv", "parquet")]
    for table in ("interactions", "users", "items"):
        pd.testing.assert_frame_equal(getattr(loaded[0], table), getattr(loaded[1], table))
    read_back = loaded[0].interactions
    assert read_back["user_id"].tolist() == [user for user, _ in ids]
    assert read_back["item_id"].tolist() == [item for _, item in ids]
    assert read_back["timestamp"].tolist() == times.tolist()
    assert read_back["rating"].tolist() == frame["stars"].tolist()
    assert [None if pd.isna(count) else count for count in read_back["n"]] == counts
    assert loaded[0].users["user_id"].tolist() == list(dict.fromkeys(user for user, _ in ids))
    assert loaded[0].items["title"].tolist() == [str(title) for title in dict.fromkeys(item for _, item in ids)]


WRONG: dict[tuple[str, str], list[Any]] = {
    ("user_id", "null"): ["", "a", "5", "1"],
    ("item_id", "null"): ["u", "", "5", "1"],
    ("timestamp", "type"): ["u", "a", "soon", "1"],
    ("timestamp", "null"): ["u", "a", "", "1"],
    ("timestamp", "range"): ["u", "a", "-5", "1"],
    ("timestamp", "unit"): ["u", "a", "1700000000000", "1"],
    ("rating", "range"): ["u", "a", "5", "inf"],
    ("rating", "type"): ["u", "a", "5", "good"],
    ("rating", "null"): ["u", "a", "5", ""],
}


@settings(max_examples=8)
@given(st.lists(st.one_of(st.none(), st.sampled_from(sorted(WRONG))), min_size=1, max_size=15))
def test_dropping_keeps_every_good_row_and_counts_every_bad_one_by_its_reason(
    plan: list[tuple[str, str] | None],
) -> None:
    rows = [["u", "a", str(number), "2.5"] if fault is None else WRONG[fault] for number, fault in enumerate(plan)]
    good = [number for number, fault in enumerate(plan) if fault is None]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        put(directory / "interactions.csv", list(COLUMNS.values()), rows)
        source = config(directory, bad_rows="drop", interactions={"columns": COLUMNS, "types": {"item_id": "string"}})
        if not good:
            with pytest.raises(DataError, match="no good row"):
                read(source, directory / "out")
            return
        tables, report = read(source, directory / "out")
        if len(good) < len(plan):
            strict = msgspec.structs.replace(source, bad_rows="refuse")
            with pytest.raises(DataError, match=r"interactions\.csv, line \d+, row \d+: column .* must be"):
                read(strict, directory / "strict")
            assert not (directory / "strict").exists(), "a refused source left something behind"
    assert tables.interactions["timestamp"].tolist() == good
    counts = report["rows"]["interactions"]
    assert (counts["read"], counts["kept"]) == (len(plan), len(good))
    left_out = {(entry["column"], entry["reason"]): entry["rows"] for entry in report["left_out"]}
    assert left_out == {fault: plan.count(fault) for fault in WRONG if fault in plan}
    for entry in report["left_out"]:
        first = plan.index((entry["column"], entry["reason"]))
        assert entry["examples"][0]["row"] == first
        assert list(entry["examples"][0]["values"].values()) == [value or None for value in rows[first]]


def small(directory: Path) -> None:
    put(directory / "interactions.csv", ["user_id", "item_id"], [["7", "x"], ["8", "y"], ["7", "y"]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tmp: put(tmp / "interactions.csv", ["user_id", "sku"], [["1", "a"]]), ["no column 'item_id'", "sku"]),
        (lambda tmp: (tmp / "interactions.csv").write_text(""), ["interactions.csv", "not readable as csv"]),
        (lambda tmp: (tmp / "interactions.csv").write_text("user_id,item_id\n1,a,b\n"), ["line 2", "row of 2 fields"]),
        (lambda tmp: (tmp / "interactions.csv").write_bytes(b"user_id,item_id\n1,\xe9\n"), ["encoding", "latin-1"]),
        (lambda tmp: put(tmp / "users.csv", ["user_id"], [["7"], ["8"], ["7"]]), ["row 2", "there once", "'7'"]),
        (lambda tmp: put(tmp / "users.csv", ["user_id"], [["9"]]), ["data.users: none of its 1 ids", "such as 7"]),
        (lambda tmp: (tmp / "interactions.csv").unlink(), ["no such file", "relative to the recipe"]),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name_and_the_remedy(
    tmp_path: Path, change: Callable[[Path], Any], words: list[str]
) -> None:
    small(tmp_path)
    source = config(tmp_path)
    change(tmp_path)
    source = config(tmp_path) if (tmp_path / "users.csv").exists() else source
    with pytest.raises(DataError) as caught:
        read(source, tmp_path / "out")
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_a_column_that_the_recipe_names_and_the_file_lacks_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    small(tmp_path)
    with pytest.raises(DataError, match=r"no column 'uid'; there are: user_id, item_id"):
        read(config(tmp_path, interactions={"columns": {"user_id": "uid"}}), tmp_path / "out")
    with pytest.raises(DataError, match=r"both 'user_id' and 'item_id' would be called 'user_id'"):
        read(config(tmp_path, interactions={"columns": {"user_id": "item_id"}}), tmp_path / "out")


def test_a_directory_is_read_in_the_order_of_names_with_its_folders_as_columns(tmp_path: Path) -> None:
    for day, rows in {"2": [[3, 30]], "10": [[1, 10], [2, 20]]}.items():
        (tmp_path / "clicks" / f"day={day}").mkdir(parents=True)
        put(tmp_path / "clicks" / f"day={day}" / "part.csv", ["user_id", "item_id"], rows)
    (tmp_path / "clicks" / "_SUCCESS").touch()
    source = msgspec.convert({"source": "tables", "interactions": {"path": str(tmp_path / "clicks")}}, OwnTables)
    tables, _ = read(source, tmp_path / "out")
    assert tables.interactions[["user_id", "day"]].to_numpy().tolist() == [[1, 10], [2, 10], [3, 2]]
    put(tmp_path / "clicks" / "day=2" / "other.csv", ["user_id", "product"], [[1, 2]])
    with pytest.raises(DataError, match=r"other\.csv.*not the same columns.*'item_id', 'product'"):
        read(source, tmp_path / "out")


def test_addresses_of_other_file_systems_are_read_and_watched() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/own/clicks.csv", b"user_id,item_id\n1,a\n")
    source = msgspec.convert({"source": "tables", "interactions": {"path": "memory://own/clicks.csv"}}, OwnTables)
    before = state(source)
    with tempfile.TemporaryDirectory() as name:
        assert read(source, Path(name) / "out")[0].interactions["item_id"].tolist() == ["a"]
    assert state(source) == before
    memory.pipe("/own/clicks.csv", b"user_id,item_id\n1,b\n")
    assert state(source) != before


def test_ids_are_strings_in_every_table_where_they_are_in_one(tmp_path: Path) -> None:
    put(tmp_path / "interactions.csv", ["user_id", "item_id"], [["7", "1"], ["8", "2"]])
    put(
        tmp_path / "users.csv",
        ["user_id", "zip", "born"],
        [["7", "01067", ""], ["8", "20095", "1990"], ["x9", "", "1"]],
    )
    put(tmp_path / "items.csv", ["item_id", "title", "tags"], [["1", "", "a | b|"], ["2", "Two\nlines", ""]])
    tables, report = read(config(tmp_path, items={"lists": {"tags": "|"}}), tmp_path / "out")
    assert tables.interactions["user_id"].tolist() == ["7", "8"]
    assert tables.interactions["item_id"].tolist() == [1, 2]
    assert tables.users["zip"].tolist() == ["01067", "20095", None]
    assert tables.users["born"].dtype == np.float64
    assert tables.items["tags"].tolist() == [["a", "b"], []]
    assert tables.items["title"].tolist() == ["1", "Two\nlines"]
    assert report["rows"]["items"]["without_title"] == 1


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("iso", ["2024-05-01T12:30:00Z", "2024-05-01 12:30", "2024-05-01"], [1714566600, 1714566600, 1714521600]),
        ("iso", ["2024-05-01T12:30:00.9+02:00", "1970-01-01", "2024-05-01"], [1714559400, 0, 1714521600]),
        (
            "%d/%m/%Y %H:%M",
            ["01/05/2024 12:30", "02/01/1970 00:00", "01/05/2024 00:00"],
            [1714566600, 86400, 1714521600],
        ),
        ("order", ["0", "1", "17"], [1, 2, 18]),
        ("excel", ["45413.5208333334", "25569", "45413"], [1714566600, 0, 1714521600]),
        ("milliseconds", ["1714566600999", "1714566600999.9", "0"], [1714566600, 1714566600, 0]),
    ],
)
def test_times_are_read_as_the_recipe_says(tmp_path: Path, unit: str, values: list[str], expected: list[int]) -> None:
    put(tmp_path / "interactions.csv", ["user_id", "item_id", "timestamp"], [[1, 2, value] for value in values])
    tables, _ = read(config(tmp_path, timestamp_unit=unit), tmp_path / "out")
    assert tables.interactions["timestamp"].tolist() == expected


def test_dates_of_parquet_need_the_unit_that_says_so(tmp_path: Path) -> None:
    when = pd.to_datetime(["2024-05-01 12:30:00.9", "1970-01-01"])
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": when})
    frame.to_parquet(tmp_path / "interactions.parquet")
    tables, _ = read(config(tmp_path, "parquet", timestamp_unit="datetime"), tmp_path / "out")
    assert tables.interactions["timestamp"].tolist() == [1714566600, 0]
    with pytest.raises(DataError, match=r'holds timestamp.*timestamp_unit = "seconds"; set "datetime"'):
        read(config(tmp_path, "parquet"), tmp_path / "out")


def test_what_needs_a_time_is_refused_by_name_where_there_is_none(tmp_path: Path) -> None:
    small(tmp_path)
    read(config(tmp_path), tmp_path / "out")
    stored = open_tables(tmp_path / "out")
    plain = msgspec.convert({"features": {"user_id": {"kind": "categorical"}}}, FeatureSide)
    timed = msgspec.convert(
        {"features": {"history": {"kind": "sequence"}, "timestamp": {"kind": "continuous"}}}, FeatureSide
    )
    check_dated(stored, RandomSplit(), plain, plain)
    with pytest.raises(RecipeError, match=r"leave-last-out\": the interactions have no time"):
        check_dated(stored, LeaveLastOutSplit(), plain, plain)
    with pytest.raises(RecipeError, match=r"query.features.history, query.features.timestamp: the interactions"):
        check_dated(stored, RandomSplit(), timed, plain)


def test_relative_paths_are_relative_to_the_recipe_and_addresses_stay() -> None:
    source = msgspec.convert(
        {"source": "tables", "interactions": {"path": "a/b.csv"}, "users": {"path": "s3://bucket/u"}}, OwnTables
    )
    resolved = located(source, Path("/recipes"))
    assert isinstance(resolved, OwnTables)
    assert resolved.users is not None
    assert (resolved.interactions.path, resolved.users.path) == ("/recipes/a/b.csv", "s3://bucket/u")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", None], "integer"),
        (["1", "2.5"], "float"),
        (["01067", "20095"], "string"),
        (["0.5", "0"], "float"),
        (["99999999999999999999"], "float"),
        (["1_000"], "string"),
        ([None], "string"),
    ],
)
def test_text_is_a_number_only_where_nothing_is_lost(values: list[str | None], kind: str) -> None:
    assert guess(values) == kind


PARTS = {"train": [["u", "a"], ["u", "b"], ["v", "a"]], "validation": [["v", "c"]], "test": [["u", "c"], ["w", "b"]]}


def given_parts(directory: Path, split: dict[str, Any], **options: Any) -> dict[str, list[list[str]]]:
    """Return what the features' stage makes of a given split: (user, item) of each part's rows."""
    recipe = {"source": "tables", "split": {"kind": "given", **split}, **options}
    source = located(msgspec.convert(recipe, OwnTables), directory)
    own_tables.fetch(source, directory, lambda line: None).save(directory / "tables")
    features = {"user_id": Categorical()}, {"item_id": Categorical()}
    sides = [FeatureSide(features=dict(side)) for side in features]
    build(open_tables(directory / "tables"), *sides, source.split, "cpu", directory / "features")
    data = load(directory / "features")
    parts = zip(PARTS, (data.train, data.valid, data.test), strict=True)
    return {name: part.interactions[["user_id", "item_id"]].to_numpy().tolist() for name, part in parts}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_parts_that_were_published_as_files_are_the_parts_without_a_time(tmp_path: Path, suffix: str) -> None:
    for name, rows in PARTS.items():
        if suffix == "csv":
            put(tmp_path / f"{name}.csv", ["uid", "what"], rows)
        else:
            pd.DataFrame(rows, columns=["uid", "what"]).to_parquet(tmp_path / f"{name}.parquet")
    files = {name: f"{name}.{suffix}" for name in PARTS}
    columns = {"columns": {"user_id": "uid", "item_id": "what"}}
    assert given_parts(tmp_path, files, interactions=columns) == PARTS


def test_a_column_says_which_part_each_row_is_in(tmp_path: Path) -> None:
    named = {"train": "train", "validation": "valid", "test": "Test "}
    rows = [[*pair, named[part]] for part in ("test", "train", "validation") for pair in PARTS[part]]
    put(tmp_path / "all.csv", ["user_id", "item_id", "fold"], rows)
    table = {"path": "all.csv"}
    assert given_parts(tmp_path, {"column": "fold"}, interactions=table) == PARTS
    put(tmp_path / "all.csv", ["user_id", "item_id", "fold"], [*rows, ["w", "a", "held out"]])
    with pytest.raises(DataError, match=r"column 'fold' must be train, validation or test.*'held out' in row 6"):
        given_parts(tmp_path, {"column": "fold"}, interactions=table)
    with pytest.raises(DataError, match="no column 'part'; there are: user_id, item_id, fold"):
        given_parts(tmp_path, {"column": "part"}, interactions=table)


@pytest.mark.parametrize(
    ("split", "interactions", "words"),
    [
        ({"train": "train.csv"}, {}, "needs `train` and `test`, two files, or `column`"),
        ({"train": "train.csv", "test": "test.csv", "column": "fold"}, {}, "takes files or `column`, not both"),
        ({"train": "train.csv", "test": "test.csv"}, {"path": "train.csv"}, "leave one out"),
        ({"column": "fold"}, {}, "`interactions` needs a `path`"),
        ({"train": "train.csv", "test": "train.csv"}, {}, "is in train and in test"),
        ({"train": "train.csv", "test": "gone.csv"}, {}, r"data\.split\.test .*gone\.csv: no such file"),
        ({"train": "train.csv", "test": "test.parquet"}, {}, "is parquet, the training rows are csv"),
        ({"train": "split.csv", "test": "test.csv"}, {}, "has not the same columns"),
        ({"train": "split.csv", "test": "split2.csv"}, {}, r"'split'.* into data\.interactions\.ignore"),
    ],
)
def test_parts_that_cannot_be_are_refused_by_name(
    tmp_path: Path, split: dict[str, Any], interactions: dict[str, Any], words: str
) -> None:
    for name in ("train", "test"):
        put(tmp_path / f"{name}.csv", ["user_id", "item_id"], PARTS[name])
    for name in ("split", "split2"):
        put(tmp_path / f"{name}.csv", ["user_id", "item_id", "split"], [["u", "a", "train"]])
    pd.DataFrame(PARTS["test"], columns=["user_id", "item_id"]).to_parquet(tmp_path / "test.parquet")
    with pytest.raises((DataError, msgspec.ValidationError), match=words):
        given_parts(tmp_path, split, interactions=interactions)
