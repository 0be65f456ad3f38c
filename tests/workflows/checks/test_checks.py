"""Each check finds what was planted, with its count and rows, and says nothing of clean data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.checks.check import check
from workflows.checks.columns import used_columns
from workflows.checks.findings import Checked, Finding
from workflows.checks.rows import Events, row_findings
from workflows.config import Age, AnySplit, FeatureSide, MultiHot, OwnTables, TemporalSplit
from workflows.tables.splits import split as split_rows
from workflows.tables.store import Tables, open_tables

Frames = dict[str, pd.DataFrame]
START = 1_600_000_000
QUERY = {"user_id": {"kind": "categorical"}, "city": {"kind": "categorical"}, "age": {"kind": "continuous"}}
ITEM = {"item_id": {"kind": "categorical"}, "title": {"kind": "text"}, "brand": {"kind": "categorical"}}


def clean() -> Frames:
    """Forty users who each had all but one of twenty items, at times of their own; every item is in every part."""
    users, steps = np.divmod(np.arange(40 * 19), 19)
    items = (users + steps) % 20
    order = np.argsort(steps, kind="stable")
    rows = {"user_id": [f"u{user}" for user in users[order]], "item_id": [f"i{item}" for item in items[order]]}
    ids = [f"u{user}" for user in range(40)], [f"i{item}" for item in range(20)]
    times = START + 1000 * np.arange(len(order))
    return {
        "interactions": pd.DataFrame({**rows, "timestamp": times, "device": list("ab") * 380}),
        "users": pd.DataFrame({"user_id": ids[0], "city": list("xyzw") * 10, "age": range(40)}),
        "items": pd.DataFrame(
            {"item_id": ids[1], "title": [f"item {item}" for item in ids[1]], "brand": list("pq") * 10}
        ),
    }


def checked(frames: Frames, directory: Path, query: Any = None, item: Any = None, **options: Any) -> Checked:
    for table, frame in frames.items():
        frame.to_parquet(directory / f"{table}.parquet", index=False)
    tables = {table: {"path": str(directory / f"{table}.parquet")} for table in frames}
    source = msgspec.convert({"source": "tables", **tables, "split": {"kind": "temporal"}, **options}, OwnTables)
    sides = (msgspec.convert({"features": features}, FeatureSide) for features in (query or QUERY, item or ITEM))
    return check(source, *sides, directory, lambda line: None)


def of(report: Checked, name: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.check == name]
    return finding


def test_clean_data_gives_no_finding_and_the_facts_of_the_split(tmp_path: Path) -> None:
    report = checked(clean(), tmp_path)
    assert report.findings == []
    assert report.facts["interactions"] == 760
    assert report.facts["test"] == 76
    assert report.facts["cold"] == {"users": 0.0, "items": 0.0}


def cell(table: str, column: str, row: int, value: Any) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        frames[table][column] = [value if place == row else old for place, old in enumerate(frames[table][column])]

    return change


def column(table: str, name: str, values: Any) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        frames[table] = frames[table].assign(**{name: values})

    return change


def again(table: str, rows: slice, **values: Any) -> Callable[[Frames], None]:
    def change(frames: Frames) -> None:
        frames[table] = pd.concat([frames[table], frames[table].iloc[rows].assign(**values)], ignore_index=True)

    return change


@pytest.mark.parametrize(
    ("change", "name", "severity", "rows"),
    [
        (cell("interactions", "user_id", 5, None), "bad-row/null", "error", 1),
        (cell("interactions", "user_id", 5, "nobody"), "partial", "note", 1),
        (column("interactions", "timestamp", START * 1000 + np.arange(760)), "bad-row/unit", "error", 760),
        (again("users", slice(3)), "bad-row/duplicate", "error", 3),
        (column("interactions", "timestamp", np.zeros(760, dtype=np.int64)), "no-time", "error", 760),
        (again("interactions", slice(7)), "duplicate", "warning", 7),
        (column("interactions", "timestamp", START // 1000 + np.arange(760)), "time/early", "warning", 760),
        (cell("interactions", "timestamp", 9, 32_000_000_000), "time/future", "warning", 1),
        (column("interactions", "timestamp", [START] * 760), "time/constant", "warning", 760),
        (column("interactions", "timestamp", 86_400 * (15_000 + np.arange(760))), "time/days", "note", 760),
        (column("interactions", "timestamp", START + np.arange(760) // 400), "leakage/ties", "warning", 76),
        (column("users", "city", "x"), "constant", "warning", 40),
        (column("users", "unused", "x"), "constant", "note", 40),
        (column("interactions", "app", 1), "constant", "note", 760),
        (column("users", "city", ["x", "y"] + [None] * 38), "null", "warning", 38),
        (column("users", "city", ["NULL", "y"] * 20), "null-word", "warning", 20),
        (column("users", "city", ["7", "8"] * 20), "number-as-text", "note", 40),
        (column("users", "age", [np.inf] + [1.0, 2.0, 3.0] * 13), "infinite", "warning", 1),
        (column("items", "title", ["same", "same"] + [f"t{n}" for n in range(18)]), "same-title", "note", 2),
        (column("users", "age", [1e300] + [1.0, 2.0, 3.0] * 13), "not-finite", "error", 1),
        (column("users", "age", [-np.inf] + [1.0, 2.0, 3.0] * 13), "not-finite", "error", 1),
        (again("items", slice(2), item_id=["I0", " i7"]), "id/case", "warning", 4),
        (again("items", slice(2), item_id=["new", " i7"]), "id/space", "warning", 1),
        (again("items", slice(2), item_id=["new", "i99"]), "unseen-items", "note", 2),
        (again("interactions", slice(0, 60), timestamp=START + 10**7), "leakage/repeated", "note", 60),
        (again("interactions", slice(0, 1), user_id="u0", item_id="i19", timestamp=START + 10**7), "none", "", 0),
    ],
)  # fmt: skip
def test_what_was_planted_is_found_with_its_severity_and_count(
    tmp_path: Path, change: Callable[[Frames], None], name: str, severity: str, rows: int
) -> None:
    frames = clean()
    change(frames)
    report = checked(frames, tmp_path)
    if name == "none":
        assert report.findings == []
        return
    finding = of(report, name)
    assert (finding.severity, finding.rows) == (severity, rows)
    assert finding.remedy
    assert finding.table == "interactions" or finding.examples or finding.check == "constant"


AGED = {"kind": "age", "unit": "years"}


@pytest.mark.parametrize(
    ("side", "features", "table", "odd", "value"),
    [
        ("query", {"age": AGED}, "users", "age", 1e300),
        ("query", {"age": {**AGED, "normalise": False}}, "users", "age", -1e47),
        ("item", {"born": {**AGED, "until": "sold"}}, "items", "sold", 1e300),
        ("query", {"user_id": {"kind": "aggregate", "of": "stars"}}, "interactions", "stars", -1e300),
        ("item", {"item_id": {"kind": "aggregate", "of": "stars"}}, "interactions", "stars", 1e300),
    ],
)
def test_a_number_that_no_feature_can_be_made_of_is_found_wherever_it_is_read(
    tmp_path: Path, side: str, features: Any, table: str, odd: str, value: float
) -> None:
    frames = clean()
    frames["interactions"]["stars"] = [1.0, 2.0] * 380
    frames["items"] = frames["items"].assign(born=float(START), sold=float(START))
    sides = {"query": QUERY, "item": ITEM, side: {**{"query": QUERY, "item": ITEM}[side], **features}}
    assert not [finding for finding in checked(frames, tmp_path, **sides).findings if finding.check == "not-finite"]
    cell(table, odd, 7, value)(frames)
    finding = of(checked(frames, tmp_path, **sides), "not-finite")
    assert (finding.severity, finding.table, finding.column, finding.rows) == ("error", table, odd, 1)
    assert finding.examples == [{"row": 7, odd: str(value)}]


def test_an_age_that_is_clipped_is_no_finding(tmp_path: Path) -> None:
    frames = clean()
    cell("users", "age", 7, 1e300)(frames)
    query = {"user_id": {"kind": "categorical"}, "age": {**AGED, "clip_min": 0.0}}
    assert not [finding for finding in checked(frames, tmp_path, query).findings if finding.check == "not-finite"]


def test_cold_users_and_items_of_the_test_are_counted_with_their_share(tmp_path: Path) -> None:
    frames = clean()
    late = frames["interactions"].index >= 700
    frames["interactions"].loc[late, "user_id"] = "new user"
    frames["users"] = pd.concat([frames["users"], pd.DataFrame({"user_id": ["new user"], "city": ["x"], "age": [3]})])
    report = checked(frames, tmp_path)
    assert (of(report, "cold/users").severity, of(report, "cold/users").rows) == ("warning", 60)
    assert report.facts["cold"] == {"users": round(60 / 76, 4), "items": 0.0}


def test_heavy_users_are_named_with_their_rows(tmp_path: Path) -> None:
    frames = clean()
    bot = pd.DataFrame({"user_id": "u3", "item_id": "i1", "timestamp": START + np.arange(2000), "device": "a"})
    frames["interactions"] = pd.concat([bot, frames["interactions"]], ignore_index=True)
    finding = of(checked(frames, tmp_path, split={"kind": "random"}), "heavy-users")
    assert finding.examples == [{"user_id": "u3", "rows": 2019}]
    assert of(checked(frames, tmp_path, split={"kind": "random"}), "leakage/repeated").severity == "warning"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"town": {"kind": "categorical"}}, ["town", "no such column"]),
        ({"city": {"kind": "continuous"}}, ["city", "strings"]),
        ({"user_id": {"kind": "categorical"}, "history": {"kind": "categorical"}}, ["history", "sequence"]),
    ],
)
def test_a_feature_that_the_tables_cannot_give_is_an_error(tmp_path: Path, query: Any, words: list[str]) -> None:
    finding = of(checked(clean(), tmp_path, query=query), "feature")
    assert finding.severity == "error"
    assert not [word for word in words if word not in finding.message], finding.message


def test_dropped_rows_are_warnings_and_tables_that_cannot_be_read_one_error(tmp_path: Path) -> None:
    frames = clean()
    cell("interactions", "item_id", 5, None)(frames)
    report = checked(frames, tmp_path, bad_rows="drop")
    assert of(report, "bad-row/null").severity == "warning"
    assert report.facts["left_out"] == {"users": 0, "items": 0, "interactions": 1}
    (tmp_path / "items.parquet").write_bytes(b"no parquet")
    source = msgspec.convert({"source": "tables", "interactions": {"path": str(tmp_path / "items.parquet")}}, OwnTables)
    side = msgspec.convert({"features": QUERY}, FeatureSide)
    (finding,) = check(source, side, side, tmp_path, lambda line: None).findings
    assert finding.severity == "error"
    assert "items.parquet" in finding.message


def test_columns_that_a_feature_reads_beside_its_own_count_as_used() -> None:
    item = FeatureSide(features={"tags": MultiHot(weights="relevance"), "released": Age(until="added")})
    assert {"tags", "relevance", "released", "added"} == used_columns(FeatureSide(features={}), item).keys()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 8)), min_size=5, max_size=60), st.data())
def test_counts_are_those_of_a_search_row_by_row(rows: list[tuple[int, int, int]], data: Any) -> None:
    split: AnySplit = TemporalSplit(test=0.3, validation=0.2)
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).assign(rating=np.float32(1))
    frame["timestamp"] += START
    ids = {name: sorted(set(frame[name])) for name in ("user_id", "item_id")}
    items = pd.DataFrame({"item_id": ids["item_id"], "title": [f"t{item}" for item in ids["item_id"]]})
    with tempfile.TemporaryDirectory() as name:
        Tables(frame, pd.DataFrame({"user_id": ids["user_id"]}), items).save(Path(name) / "tables")
        stored = open_tables(Path(name) / "tables")
        facts: dict[str, Any] = {}
        counts = {finding.check: finding.rows for finding in row_findings(Events.of(stored), split, facts)}
    parts = split_rows(frame, split)
    train = [rows[row] for row in parts.train]
    test = [rows[row] for row in parts.test]
    assert counts.get("duplicate", 0) == len(rows) - len(set(rows))
    assert counts.get("cold/users", 0) == sum(user not in {row[0] for row in train} for user, _, _ in test)
    assert counts.get("cold/items", 0) == sum(item not in {row[1] for row in train} for _, item, _ in test)
    again = sum((user, item) in {row[:2] for row in train} for user, item, _ in test)
    assert counts.get("leakage/repeated", 0) == again
    newest = max(rows[row][2] for row in (*parts.train, *parts.valid))
    ties = sum(when <= newest for _, _, when in test)
    constant = len({when for _, _, when in rows}) == 1
    assert counts.get("leakage/ties", 0) == (ties if ties > 0.05 * len(test) and not constant else 0)
