"""Files of every shape that people have, from the file to the tables that a run is made of."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sqlite3
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from pyarrow import feather

from retrieval.init.columns.profile import Given
from retrieval.init.plan import make_plan
from retrieval.init.trial import Trial, tried
from retrieval.recipes.recipe import parse_recipe
from workflows.config import OwnTables
from workflows.errors import DataError
from workflows.sources.own_tables.source import OwnRows
from workflows.tables.store import Tables

SIDES = """[query.features]\nuser_id = { kind = "categorical" }\n[item.features]\nitem_id = { kind = "categorical" }"""
HEADER = ("user_id", "item_id", "rating", "timestamp")
Row = tuple[int, int, int, int]


def made_up() -> list[Row]:
    """Rows of 40 users with 25 of 60 items each, over two years, in the order of their times."""
    random = np.random.default_rng(7)
    pairs = [(user, int(item)) for user in range(1, 41) for item in random.choice(60, 25, replace=False) + 1000]
    times = np.sort(random.integers(1_500_000_000, 1_560_000_000, len(pairs)))
    order = random.permutation(len(pairs))
    ratings = random.integers(1, 6, len(pairs))
    return [(*pairs[at], int(ratings[n]), int(times[n])) for n, at in enumerate(order)]


ROWS = made_up()
FRAME = pd.DataFrame(ROWS, columns=list(HEADER))


def lines(between: str, header: Sequence[str] | None = HEADER, rows: Sequence[Sequence[Any]] = ROWS) -> str:
    return "".join(between.join(map(str, row)) + "\n" for row in ([header] if header else []) + [*rows])


def dated(write: Callable[[pd.Timestamp], str]) -> str:
    rows = [(*row[:3], write(pd.Timestamp(row[3], unit="s"))) for row in ROWS]
    return lines(";", ("user", "item", "rating", "when"), rows)


def of_user() -> Iterator[tuple[int, list[int]]]:
    for user, rows in FRAME.sort_values("user_id", kind="stable").groupby("user_id"):
        yield int(str(user)), rows["item_id"].head(3 + int(str(user)) % 20).tolist()


TEXTS: dict[str, str | bytes] = {
    "comma.csv": lines(","),
    "tab.tsv": lines("\t"),
    "u.data": lines("\t", None),
    "ratings.dat": lines("::", None),
    "semicolon.txt": lines(";"),
    "pipe.txt": lines("|"),
    "caret.txt": lines("^"),
    "tilde": lines("~"),
    "space.txt": lines(" ", None),
    "aligned.txt": "".join(f"{user:>5} {item:>6}   {rating} {time}\n" for user, item, rating, time in ROWS),
    "hive.txt": lines("\x01", None),
    "two.txt": lines("||"),
    "recbole.inter": lines("\t", ("user_id:token", "item_id:token", "rating:float", "timestamp:float")),
    "carriage.csv": lines(",").replace("\n", "\r"),
    "windows.csv": lines(",").replace("\n", "\r\n"),
    "space after comma.csv": lines(", "),
    "space in header.csv": lines(",", ("user_id", " item_id", " rating", " timestamp")),
    "trailing in both.csv": lines(",").replace("\n", ",\n"),
    "trailing in rows.csv": lines(",", None).replace("\n", ",\n").join((",".join(HEADER) + "\n", "")),
    "comment.csv": "# exported by a shop\n# in 2024\n" + lines(","),
    "index.csv": lines(",", ("", *HEADER), [(n, *row) for n, row in enumerate(ROWS)]),
    "mark.csv": lines(",").encode("utf-8-sig"),
    "sixteen.csv": lines(",").encode("utf-16"),
    "lines.jsonl": "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS),
    "array.json": json.dumps([dict(zip(HEADER, row, strict=True)) for row in ROWS], indent=1),
    "lines in.txt": "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS),
    "one.csv.gz": gzip.compress(lines(",").encode()),
    "one.csv.bz2": bz2.compress(lines(",").encode()),
    "one.csv.xz": lzma.compress(lines(",").encode()),
    "one.csv.zst": pa.compress(lines(",").encode(), codec="zstd", asbytes=True),
    "packed.json.gz": gzip.compress(json.dumps([dict(zip(HEADER, row, strict=True)) for row in ROWS]).encode()),
    "iso.csv": dated(lambda time: f"{time:%Y-%m-%d %H:%M:%S UTC}"),
    "twitter.csv": dated(lambda time: f"{time:%a %b %d %H:%M:%S +0000 %Y}"),
    "american.csv": dated(lambda time: f"{time.month}/{time.day}/{time:%Y %I:%M:%S %p}"),
    "german.csv": dated(lambda time: f"{time:%d.%m.%Y %H:%M:%S}"),
    "log.csv": dated(lambda time: f"{time:%d/%b/%Y:%H:%M:%S +0000}"),
    "mail.csv": dated(lambda time: f"{time:%a, %d %b %Y %H:%M:%S GMT}"),
}  # fmt: skip


def answer(directory: Path, path: str, **options: Any) -> tuple[Trial, Tables]:
    """Take a file from `init` over `check` to the tables of a run."""
    tables = {table: options.pop(table) for table in ("users", "items") if table in options}
    columns, unit = options.pop("columns", {}), options.pop("unit", None)
    plan = make_plan({"interactions": path, **tables}, columns, directory, {"interactions": Given(**options)}, unit)
    trial = tried(plan, "shapes", directory / "recipe.toml", lambda _: None)
    assert not trial.missing, trial.missing
    recipe = parse_recipe(trial.text, directory / "recipe.toml")
    assert isinstance(recipe.data, OwnTables)
    OwnRows(recipe.data, lambda _: None).save(directory / "tables")
    return trial, Tables.load(directory / "tables")


def same(tables: Tables, columns: Sequence[str] = HEADER) -> None:
    rows = tables.interactions[list(columns)].astype("int64")
    pd.testing.assert_frame_equal(rows, FRAME[list(columns)], check_dtype=False)


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_any_form_is_read_as_it_is_meant(tmp_path: Path, name: str) -> None:
    content = TEXTS[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    trial, tables = answer(tmp_path, name)
    same(tables)
    assert len(trial.preview) == 5
    assert trial.preview[0]["timestamp"] == f"{pd.Timestamp(ROWS[0][3], unit='s'):%Y-%m-%d %H:%M:%S}"


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.feather", "a.arrow", "stream.arrow", "a.sqlite", "a.db", "a.duckdb", "a.zip"]
)
def test_stores_of_tables_are_read(tmp_path: Path, name: str) -> None:
    path, table = tmp_path / name, pa.Table.from_pandas(FRAME)
    if name == "a.parquet":
        pq.write_table(table, path)
    elif name == "a.feather":
        feather.write_feather(table, str(path))
    elif name.endswith("arrow"):
        new_writer = pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file
        with new_writer(str(path), table.schema) as writer:
            writer.write_table(table, 300)
    elif name in ("a.sqlite", "a.db"):
        with sqlite3.connect(path) as database:
            FRAME.to_sql("ratings", database, index=False)
    elif name == "a.duckdb":
        with duckdb.connect(str(path)) as database:
            database.register("frame", FRAME)
            database.execute("CREATE TABLE ratings AS FROM frame")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.dat", lines("::", None))
    same(answer(tmp_path, name)[1])


@pytest.mark.parametrize("form", ["lines", "list.parquet", "list.jsonl", "brackets.csv", "pipes.csv"])
def test_the_items_of_a_user_in_one_row_become_rows(tmp_path: Path, form: str) -> None:
    pairs = [(user, item) for user, items in of_user() for item in items]
    frame = pd.DataFrame(of_user(), columns=["user", "items"])
    path = tmp_path / form
    if form == "lines":
        path.write_text("".join(f"{user} {' '.join(map(str, items))}\n" for user, items in of_user()), encoding="utf-8")
    elif form == "list.parquet":
        frame.to_parquet(path)
    elif form == "list.jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif form == "brackets.csv":
        frame.to_csv(path, index=False)
    else:
        frame.assign(items=frame["items"].map(lambda items: "|".join(map(str, items)))).to_csv(path, index=False)
    _, tables = answer(tmp_path, form)
    assert [(int(user), int(item)) for user, item in tables.interactions[["user_id", "item_id"]].to_numpy()] == pairs


def test_blocks_of_ratings_under_a_film_become_rows(tmp_path: Path) -> None:
    blocks = FRAME.assign(date=pd.to_datetime(FRAME["timestamp"], unit="s").dt.strftime("%Y-%m-%d")).groupby("item_id")
    text = "".join(
        f"{item}:\n" + rows[["user_id", "rating", "date"]].to_csv(index=False, header=False) for item, rows in blocks
    )
    (tmp_path / "combined_data_1.txt").write_text(text, encoding="utf-8")
    _, tables = answer(tmp_path, "combined_data_1.txt")
    columns = ["user_id", "item_id", "rating"]
    ratings = tables.interactions[columns].astype("int64").sort_values(columns).reset_index(drop=True)
    pd.testing.assert_frame_equal(ratings, FRAME[columns].sort_values(columns).reset_index(drop=True))


@pytest.mark.parametrize("note", ['"Heroes', '"Heroes,9,9'])
def test_a_quote_that_nobody_closed_loses_no_rows(tmp_path: Path, note: str) -> None:
    rows = [[*row, note if at == 500 else "fine"] for at, row in enumerate(ROWS)]
    (tmp_path / "a.csv").write_text(lines(",", (*HEADER, "note"), rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"a.csv, (row 500|line 502): 500 lines are one value, .*Heroes.*not closed"):
        answer(tmp_path, "a.csv")
    paragraphs = [[*row, '"good, bad,\nso and so, and, on, and on,\n, , , ,\nand on, on\nall"'] for row in ROWS]
    (tmp_path / "b.csv").write_text(lines(",", (*HEADER, "note"), paragraphs), encoding="utf-8")
    same(answer(tmp_path, "b.csv")[1])


def test_quotes_after_a_backslash_do_not_end_a_field(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(lines(","), encoding="utf-8")
    text = '"ISBN";"Book-Title";"n"\n' + "".join(
        f'"{item}";"A \\"fine\\" book; part {item}";"7"\n' for item in range(1000, 1061)
    )
    (tmp_path / "books.csv").write_text(text, encoding="latin-1")
    _, tables = answer(tmp_path, "orders.csv", items="books.csv")
    assert tables.items.set_index("item_id").loc[1001, "title"] == 'A "fine" book; part 1001'
    assert len(tables.items) == 61


def test_ids_are_whole_whatever_type_they_have(tmp_path: Path) -> None:
    big = FRAME["user_id"].to_numpy(np.uint64) + np.uint64(2**63)
    tokens = [uuid.UUID(int=item).bytes for item in FRAME["item_id"]]
    table = pa.table({"user": pa.array(big), "item": pa.array(tokens, pa.binary(16)), "timestamp": FRAME["timestamp"]})
    pq.write_table(table, tmp_path / "hashed.parquet")
    _, tables = answer(tmp_path, "hashed.parquet")
    assert tables.interactions["user_id"].tolist() == [str(user) for user in big]
    assert tables.interactions["item_id"].tolist() == [str(uuid.UUID(bytes=token)) for token in tokens]


@pytest.mark.parametrize("names", [
    ("userID", "artistID"), ("order_id", "product_id"),
    ("household_id", "PRODUCT_ID"), ("CustomerID", "StockCode"), ("user_id", "business_id"),
    ("whatever_id", "thing_code"),
])  # fmt: skip
def test_ids_are_found_by_what_is_left(tmp_path: Path, names: tuple[str, str]) -> None:
    frame = FRAME.assign(InvoiceNo=np.arange(len(FRAME)) // 3).rename(columns=dict(zip(HEADER, names, strict=False)))
    first = ["InvoiceNo"] if names[0] != "order_id" else []
    frame[[*first, *names, "rating", "timestamp"]].to_csv(tmp_path / "a.csv", index=False)
    same(answer(tmp_path, "a.csv")[1])


def test_a_day_that_could_be_a_month_is_asked_for_with_both_readings(tmp_path: Path) -> None:
    rows = [(user, item, f"{1 + n % 12:02d}/{1 + n // 12 % 12:02d}/2020") for n, (user, item, *_) in enumerate(ROWS)]
    (tmp_path / "a.csv").write_text(lines(",", ("user", "item", "date"), rows), encoding="utf-8")
    message = r"'02/01/2020' is 2 January 2020 \(--timestamp-unit '%d/%m/%Y'\) or 1 February 2020 \(.* '%m/%d/%Y'\)"
    with pytest.raises(DataError, match=message):
        answer(tmp_path, "a.csv")
    _, tables = answer(tmp_path, "a.csv", unit="%d/%m/%Y")
    assert tables.interactions["timestamp"][1] == pd.Timestamp("2020-01-02").timestamp()


@pytest.mark.parametrize(("write", "message"), [
    (lambda path: zipfile.ZipFile(path, "w").writestr("a.csv", "user,item\n") or None, "no rows"),
    (lambda path: path.write_bytes(b"\x00\x01\x02binary"), "begins with"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (lambda path: path.write_text("{'user': 1, 'item': 2}\n"), "Python's dictionaries"),
    (lambda path: path.write_text("word\nwords\n"), "no column looks like the user_id.*--delimiter"),
    (lambda path: path.write_text('{"user": 1, "item": 2}\n{"user"\n', encoding="utf-8"), "not readable as json.*line"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_with_what_it_is(tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path / "a")
    with pytest.raises(DataError, match=message):
        answer(tmp_path, "a")


def test_a_database_and_an_archive_of_several_are_asked_for_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        for name in ("orders", "views"):
            FRAME.to_sql(name, database, index=False)
    with pytest.raises(DataError, match=r"holds 2 tables; there are: orders, views; .*--table interactions="):
        answer(tmp_path, "shop.db")
    same(answer(tmp_path, "shop.db", table="views")[1])
    with zipfile.ZipFile(tmp_path / "ml.zip", "w") as archive:
        archive.writestr("ml/u.data", lines("\t", None))
        archive.writestr("ml/README", "read me")
    with pytest.raises(
        DataError, match=rf"holds 2 files \(ml/u.data, ml/README\); .*zip://ml/u.data::{tmp_path}/ml.zip"
    ):
        answer(tmp_path, "ml.zip")


def test_users_and_items_that_the_tables_lack_have_null_attributes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    pd.DataFrame({"user_id": range(1, 31), "age": range(20, 50), "city": ["x", "y", "z"] * 10}).to_csv(
        tmp_path / "u.csv", index=False
    )
    _, tables = answer(tmp_path, "a.csv", users="u.csv")
    same(tables)
    assert tables.users["age"].isna().sum() == tables.users["city"].isna().sum() == 10
    pd.DataFrame({"user_id": range(900, 930), "age": range(20, 50)}).to_csv(tmp_path / "u.csv", index=False)
    plan = make_plan({"interactions": "a.csv", "users": "u.csv"}, {}, tmp_path)
    missing = tried(plan, "shapes", tmp_path / "recipe.toml", lambda _: None).missing
    assert "none of its 30 ids (such as 900) is among the 40" in missing[0], missing


def test_what_rows_mean_is_pointed_out_and_rows_without_ids_are_counted(tmp_path: Path) -> None:
    frame = FRAME.rename(columns={"rating": "Quantity", "item_id": "StockCode"}).astype({"user_id": "Int64"})
    frame["Description"] = "item " + frame["StockCode"].astype(str) + " in blue"
    frame.loc[frame.index % 10 == 0, "Quantity"] *= -1
    frame.loc[frame.index % 4 == 0, "user_id"] = pd.NA
    frame.to_csv(tmp_path / "retail.csv", index=False)
    trial, tables = answer(tmp_path, "retail.csv")
    assert trial.said == ["left out: 250 of 1,000 rows of interactions: user_id: must be present in every row"]
    assert "# Quantity: 10.0% are negative: returns? to leave them out:\n# at_least = { Quantity = 1" in trial.text
    assert len(tables.interactions) == 750
    assert tables.items.set_index("item_id").loc[1001, "title"] == "item 1001 in blue"


def test_thresholds_and_least_rows_leave_out_and_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    trial, _ = answer(tmp_path, "a.csv")
    text = trial.text.replace(
        "# at_least = { rating = 4", "min_user_rows = 7\nmin_item_rows = 6\nat_least = { rating = 4"
    )
    recipe = parse_recipe(text, tmp_path / "recipe.toml")
    messages: list[str] = []
    assert isinstance(recipe.data, OwnTables)
    OwnRows(recipe.data, messages.append).save(tmp_path / "kept")
    tables = Tables.load(tmp_path / "kept")
    liked = FRAME[FRAME["rating"] >= 4]
    while True:
        counts = (
            liked.groupby("user_id")["item_id"].transform("size"),
            liked.groupby("item_id")["user_id"].transform("size"),
        )
        if (counts[0] >= 7).all() and (counts[1] >= 6).all():
            break
        liked = liked[(counts[0] >= 7) & (counts[1] >= 6)]
    assert 0 < len(liked) < 400
    pd.testing.assert_frame_equal(
        tables.interactions[["user_id", "item_id"]], liked[["user_id", "item_id"]].reset_index(drop=True)
    )
    assert any("rows below data.at_least left out" in line for line in messages)
    assert any("rows of users or items with too few rows left out" in line for line in messages)


@pytest.mark.parametrize("between", [",", "::", "\t"])
def test_a_refused_row_is_named_by_its_line_whatever_stands_before_it(tmp_path: Path, between: str) -> None:
    quoted = '"two\nlines"' if len(between) == 1 else "one line"
    rows = [["user_id", "item_id", "note"], ["1", "5", quoted], [""], ["2", "6", "b"], ["3"], ["4", "", "c"]]
    text = "# made up\n" + "".join(between.join(row) + "\n" for row in rows)
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    table = {"path": str(tmp_path / "a.csv"), "delimiter": between, "skip_lines": 1}
    data = msgspec.convert({"source": "tables", "interactions": table, "bad_rows": "drop"}, OwnTables)
    OwnRows(data, lambda _: None).save(tmp_path / "dropped")
    line = text[: text.index("4" + between)].count("\n") + 1
    (tmp_path / "a.csv").write_text(text.replace("3\n", f"3{between}7{between}d\n"), encoding="utf-8")
    with pytest.raises(DataError, match=rf"a\.csv, line {line}, row 3: column 'item_id' must be present"):
        OwnRows(msgspec.structs.replace(data, bad_rows="refuse"), lambda _: None).save(tmp_path / "refused")


def test_the_id_is_the_column_of_the_other_tables_name_and_not_a_quantity_of_the_same_numbers(tmp_path: Path) -> None:
    frame = FRAME.rename(columns={"user_id": "household_key", "item_id": "PRODUCT_ID", "rating": "QUANTITY"})
    frame[["QUANTITY", "household_key", "PRODUCT_ID", "timestamp"]].to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"household_key": range(1, 20), "AGE_DESC": ["19-24"] * 10 + ["25-34"] * 9}).to_csv(tmp_path / "u.csv")
    codes = {"PRODUCT_ID": range(1000, 1061), "MANUFACTURER": [n % 37 for n in range(61)]}
    pd.DataFrame({**codes, "UPC": [n * 7919 + 10**9 for n in range(61)]}).to_csv(tmp_path / "p.csv", index=False)
    trial, tables = answer(tmp_path, "a.csv", users="u.csv", items="p.csv")
    assert tables.interactions["user_id"].tolist() == FRAME["user_id"].tolist()
    assert 'manufacturer = { kind = "categorical" }' in trial.text
    assert "# upc: left out: numbers that name something" in trial.text


def test_films_of_movielens_are_read_with_their_titles_and_genres(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(lines("::", None), encoding="utf-8")
    genres = ["Drama|War", "Comedy"]
    films = "".join(
        f"{item}::Misérables, Les {item} (19{item % 100:02d})::{genres[item % 2]}\n" for item in range(1001, 1061)
    )
    (tmp_path / "movies.dat").write_text(films, encoding="latin-1")
    trial, tables = answer(tmp_path, "ratings.dat", items="movies.dat")
    same(tables)
    assert tables.items.set_index("item_id").loc[1001, "title"] == "Misérables, Les 1001 (1901)"
    assert 'lists = { item_column2 = "|" }' in trial.text


def test_words_that_may_stand_for_null_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    text = "".join(
        f"{user},{['NA', 'DE', 'FR', 'IT'][user % 4]},{['?', '7', '8'][user % 3]}\n" for user in range(1, 41)
    )
    (tmp_path / "u.csv").write_text("user_id,country,points\n" + text, encoding="utf-8")
    trial, tables = answer(tmp_path, "a.csv", users="u.csv")
    assert """# country: 'NA' (10 rows) may stand for null; if so: nulls = ["", "NA"]""" in trial.text
    assert 'nulls = ["", "?"]' in trial.text
    assert tables.users["points"].isna().sum() == 13
    assert (tables.users["country"] == "NA").sum() == 10


def test_days_and_seconds_from_a_beginning_that_nobody_tells_are_times(tmp_path: Path) -> None:
    first = FRAME["timestamp"].min() // 86_400
    days = FRAME["timestamp"] // 86_400 - first + 1
    FRAME.assign(DAY=days).drop(columns=["timestamp", "rating"]).to_csv(tmp_path / "days.csv", index=False)
    trial, tables = answer(tmp_path, "days.csv")
    assert tables.interactions["timestamp"].tolist() == (days * 86_400).tolist()
    assert 'kind = "temporal"' in trial.text
    FRAME.assign(timestamp=FRAME["timestamp"] - first * 86_400).to_csv(tmp_path / "seconds.csv", index=False)
    _, tables = answer(tmp_path, "seconds.csv")
    assert tables.interactions["timestamp"].tolist() == (FRAME["timestamp"] - first * 86_400).tolist()
    spreadsheet = FRAME["timestamp"] / 86_400 + 25_569
    FRAME.assign(date=spreadsheet.round(6)).drop(columns=["timestamp", "rating"]).to_csv(
        tmp_path / "s.csv", index=False
    )
    trial, tables = answer(tmp_path, "s.csv")
    assert (tables.interactions["timestamp"] - FRAME["timestamp"]).abs().max() <= 1
    assert 'timestamp_unit = "excel"' in trial.text
    for name, most in (("day", 31), ("day", 7), ("time", 24)):  # of the month, the week; hours
        FRAME[["user_id", "item_id"]].assign(**{name: days % most}).to_csv(tmp_path / "part.csv", index=False)
        assert "random" in answer(tmp_path, "part.csv")[0].text


def test_a_column_that_counts_the_rows_of_each_user_is_their_order(tmp_path: Path) -> None:
    frame = FRAME.assign(n=FRAME.groupby("user_id").cumcount()).drop(columns=["timestamp", "rating"])
    frame.sample(frac=1, random_state=7).to_csv(tmp_path / "counted.csv", index=False)
    trial, tables = answer(tmp_path, "counted.csv")
    assert 'timestamp_unit = "order"' in trial.text
    assert 'kind = "leave-last-out"' in trial.text, "places of two users say nothing of who was first"
    rows = tables.interactions.sort_values(["user_id", "timestamp"])["item_id"].tolist()
    assert rows == frame.sort_values(["user_id", "n"])["item_id"].tolist()
    frame.assign(n=frame["n"] % 5).to_csv(tmp_path / "other.csv", index=False)
    assert "random" in answer(tmp_path, "other.csv")[0].text
    users = [*range(1000, 2000), *frame["user_id"]]
    quantities = pd.DataFrame({"user_id": users, "item_id": np.arange(len(users)) % 60, "n": 1})
    quantities.loc[1000:, "n"] = 1 + np.arange(len(frame)) % 7
    quantities.to_csv(tmp_path / "once.csv", index=False)
    assert "random" in answer(tmp_path, "once.csv")[0].text, "users of one row count anything"


def test_rows_and_lists_are_in_the_order_of_time_where_the_user_says_so(tmp_path: Path) -> None:
    FRAME[["user_id", "item_id"]].to_csv(tmp_path / "pairs.csv", index=False)
    assert "random" in answer(tmp_path, "pairs.csv")[0].text
    trial, tables = answer(tmp_path, "pairs.csv", unit="order")
    assert 'kind = "temporal"' in trial.text
    same(tables, ("user_id", "item_id"))
    assert tables.interactions["timestamp"].tolist() == [*range(1, len(FRAME) + 1)]
    text = "".join(" ".join(map(str, [user, *items])) + "\n" for user, items in of_user())
    (tmp_path / "lists.txt").write_text(text)
    assert "--timestamp-unit order" in answer(tmp_path, "lists.txt")[0].text
    trial, tables = answer(tmp_path, "lists.txt", unit="order")
    assert 'kind = "leave-last-out"' in trial.text
    items = tables.interactions.sort_values("timestamp").groupby("user_id")["item_id"].agg(list)
    assert items.to_dict() == dict(of_user())
    (tmp_path / "sets.txt").write_text("".join(f"{u} {' '.join(map(str, sorted(of)))}\n" for u, of in of_user()))
    assert "--timestamp-unit order" not in answer(tmp_path, "sets.txt")[0].text


def test_the_history_is_pooled_by_how_long_ago_the_data_has_it(tmp_path: Path) -> None:
    """Once a day: a decay of minutes would see nothing of what was before."""
    days = FRAME.groupby("user_id").cumcount()
    FRAME.assign(timestamp=1_500_000_000 + days * 86_400).to_csv(tmp_path / "daily.csv", index=False)
    trial, _ = answer(tmp_path, "daily.csv")
    ages = np.concatenate([np.full(25 - back, back) for back in range(1, 25)]) * 86_400
    decays = parse_recipe(trial.text, tmp_path / "recipe.toml").model.history_decay_seconds
    np.testing.assert_allclose(decays, np.quantile(ages, [0.02, 0.1, 0.5, 0.9]), rtol=0.05)


def test_of_several_times_the_finer_is_taken(tmp_path: Path) -> None:
    day = pd.to_datetime(FRAME["timestamp"], unit="s").dt.strftime("%m %d, %Y")
    frame = FRAME.rename(columns={"timestamp": "unixReviewTime"})
    frame.insert(0, "reviewTime", day)
    frame.to_csv(tmp_path / "reviews.csv", index=False)
    same(answer(tmp_path, "reviews.csv")[1])


def test_ids_are_neither_times_of_day_nor_row_numbers_nor_answers_to_yes_or_no(tmp_path: Path) -> None:
    frame = FRAME.assign(clock=[f"{n % 24:02d}:{n % 60:02d}" for n in range(len(FRAME))], yes=FRAME.index % 2)
    frame = frame.reset_index().rename(columns={"user_id": "Kundennr", "item_id": "Artikelnr"})
    frame[["index", "clock", "yes", "Kundennr", "Artikelnr", "timestamp"]].to_csv(tmp_path / "a.csv", index=False)
    same(answer(tmp_path, "a.csv")[1], ("user_id", "item_id", "timestamp"))
    frame["game"] = "The game " + frame["Artikelnr"].astype(str)
    frame[["Kundennr", "game", "yes", "rating"]].to_csv(tmp_path / "games.csv", index=False, header=False)
    _, tables = answer(tmp_path, "games.csv")
    assert tables.interactions["item_id"].tolist() == frame["game"].tolist()
    frame[["index", "yes", "Kundennr"]].to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(DataError, match="no column looks like the item_id"):
        answer(tmp_path, "none.csv")


def test_a_word_for_null_among_numbers_is_no_user(tmp_path: Path) -> None:
    frame = FRAME.assign(user_id=FRAME["user_id"].astype(str).where(FRAME.index % 3 == 0, "NA"))
    frame.to_csv(tmp_path / "a.csv", index=False)
    trial, tables = answer(tmp_path, "a.csv")
    assert trial.said == ["left out: 666 of 1,000 rows of interactions: user_id: must be present in every row"]
    assert tables.interactions["user_id"].dtype == np.int64
    frame.rename(columns={"user_id": "userId"}).assign(sessionId=FRAME["user_id"]).to_csv(
        tmp_path / "b.csv", index=False
    )
    same(answer(tmp_path, "b.csv")[1])


def test_without_a_header_amazon_s_reviewers_are_told_from_its_products(tmp_path: Path) -> None:
    users, items = (FRAME[name].map("{:09d}".format) for name in ("user_id", "item_id"))
    frame = pd.DataFrame({"item": "B0" + items.str[1:], "user": "A1" + users, "rating": FRAME["rating"]})
    frame.assign(timestamp=FRAME["timestamp"]).to_csv(tmp_path / "Instruments.csv", index=False, header=False)
    _, tables = answer(tmp_path, "Instruments.csv")
    assert tables.interactions["user_id"].tolist() == frame["user"].tolist()
    assert tables.interactions["item_id"].tolist() == frame["item"].tolist()


def test_a_table_of_other_items_is_pointed_out(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame({"item_id": range(1058, 1200), "price": 1.0}).to_csv(tmp_path / "other.csv", index=False)
    plan = make_plan({"interactions": str(tmp_path / "rows.csv"), "items": "other.csv"}, {}, tmp_path)
    why = plan.roles["interactions"]["item_id"].why
    assert "only 3% of its values are in items.item_id: is " in why
    assert why.endswith("other.csv the right file?")


def test_users_that_are_in_another_table_are_asked_to_be_joined(tmp_path: Path) -> None:
    orders = pd.DataFrame({"order_id": range(1000), "user_id": FRAME["user_id"], "order_dow": FRAME.index % 7})
    orders.to_csv(tmp_path / "orders.csv", index=False)
    lines_of = pd.DataFrame({"order_id": range(1000), "product_id": FRAME["item_id"], "add_to_cart_order": 1})
    lines_of.to_csv(tmp_path / "products.csv", index=False)
    with pytest.raises(DataError, match=r"orders.csv has 'user_id', and both have 'order_id': join .*\(order_id\)"):
        answer(tmp_path, "products.csv", users="orders.csv")


def test_a_published_split_is_taken_from_a_column_or_from_files(tmp_path: Path) -> None:
    parts = np.repeat(["train", "valid", "test"], [800, 100, 100])
    FRAME.assign(fold=parts).to_csv(tmp_path / "a.csv", index=False)
    for column in (None, "fold"):
        plan = make_plan({"interactions": "a.csv"}, {}, tmp_path, split_column=column)
        assert tried(plan, "a", tmp_path / "a.toml", lambda _: None).missing == []
        assert plan.split == '{ kind = "given", column = "fold" }'
    with pytest.raises(DataError, match=r"--split-column part: .* has no such column; there are: user_id"):
        make_plan({"interactions": "a.csv"}, {}, tmp_path, split_column="part")
    for part in ("train", "valid", "test"):
        FRAME[parts == part].to_csv(tmp_path / f"{part}.csv", index=False)
    files = {"validation": "valid.csv", "test": "test.csv"}
    plan = make_plan({"interactions": "train.csv"}, {}, tmp_path, parts=files)
    trial = tried(plan, "files", tmp_path / "recipe.toml", lambda _: None)
    assert not trial.missing
    assert 'split = { kind = "given", train = "train.csv", validation = "valid.csv", test = "test.csv" }' in trial.text
    recipe = parse_recipe(trial.text, tmp_path / "recipe.toml")
    assert isinstance(recipe.data, OwnTables)
    OwnRows(recipe.data, lambda _: None).save(tmp_path / "tables")
    same(Tables.load(tmp_path / "tables"))


def test_times_in_several_columns_and_decimal_commas_are_read(tmp_path: Path) -> None:
    when = pd.to_datetime(FRAME["timestamp"], unit="s")
    frame = pd.DataFrame({"Datum": when.dt.strftime("%d.%m.%Y"), "Uhrzeit": when.dt.strftime("%H:%M:%S")})
    frame = frame.assign(
        Kundennr=FRAME["user_id"], Artikelnr=FRAME["item_id"], rating=FRAME["rating"].astype(str) + ",5"
    )
    frame.to_csv(tmp_path / "till.csv", index=False, sep=";")
    prices = [
        f"{price // 100 // 1000}.{price // 100 % 1000:03d},{price % 100:02d}" for price in range(123_456, 129_456, 100)
    ]
    prices[0] = "0,5"
    names = ["12,5" if n % 2 else "a, b" for n in range(60)]
    pd.DataFrame({"Artikelnr": range(1000, 1060), "Preis": prices, "name": names}).to_csv(
        tmp_path / "articles.csv", index=False, sep=";"
    )
    _, tables = answer(tmp_path, "till.csv", items="articles.csv")
    same(tables, ("user_id", "item_id", "timestamp"))
    assert tables.interactions["rating"].tolist() == (FRAME["rating"] + 0.5).tolist()
    assert tables.items["preis"].tolist()[:2] == [0.5, 1235.56]
    parts = FRAME.assign(year=when.dt.year, month=when.dt.month, day=when.dt.day)
    parts[["user_id", "item_id", "day", "month", "year"]].to_csv(tmp_path / "parts.csv", index=False)
    _, tables = answer(tmp_path, "parts.csv")
    assert tables.interactions["timestamp"].tolist() == (FRAME["timestamp"] // 86_400 * 86_400).tolist()


@pytest.mark.parametrize("day", ["datetime", "date"])
def test_typed_dates_beside_times_of_day_are_joined(tmp_path: Path, day: str) -> None:
    when = pd.to_datetime(FRAME["timestamp"], unit="s")
    dates = when.dt.normalize() if day == "datetime" else when.dt.date
    frame = FRAME.drop(columns="timestamp").assign(date=dates, time=when.dt.time)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    same(answer(tmp_path, "a.parquet")[1])


@pytest.mark.parametrize(
    ("write", "percent"),
    [
        (lambda value: f"${value:,.2f}", lambda value: f"{value}%"),
        (lambda value: f"{value:,.2f} €".translate(str.maketrans(",.", ".,")), lambda value: f"{value},5 %"),
    ],
)
def test_amounts_are_numbers(tmp_path: Path, write: Callable[[float], str], percent: Callable[[int], str]) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    prices, off = [500.25 * n for n in range(60)], list(range(60))
    items = pd.DataFrame({"item_id": range(1000, 1060), "price": map(write, prices), "off": map(percent, off)})
    items.to_csv(tmp_path / "items.csv", index=False, sep=";")
    _, tables = answer(tmp_path, "a.csv", items="items.csv")
    assert tables.items["price"].tolist() == prices
    assert np.floor(tables.items["off"]).tolist() == off


def test_of_impressions_those_that_were_clicked_are_interactions(tmp_path: Path) -> None:
    shown = [(n, f"U{user}", when, "N7 N8", f"N{item}-1 N9999-0") for n, (user, item, _, when) in enumerate(ROWS)]
    (tmp_path / "behaviors.tsv").write_text(lines("\t", None, shown), encoding="utf-8")
    _, tables = answer(tmp_path, "behaviors.tsv")
    assert tables.interactions["item_id"].tolist() == [f"N{item}" for item in FRAME["item_id"]]
    assert tables.interactions["user_id"].tolist() == [f"U{user}" for user in FRAME["user_id"]]


def test_a_thousand_is_no_decimal_comma_and_an_id_keeps_its_point(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    users = pd.DataFrame({"user_id": range(1, 41), "points": [f"{user},{user:03d}" for user in range(1, 41)]})
    users.to_csv(tmp_path / "u.csv", index=False)
    _, tables = answer(tmp_path, "a.csv", users="u.csv")
    assert tables.users["points"][0] == "1,001"
    frame = FRAME.assign(item_id="1." + FRAME["item_id"].astype(str).str[1:], rating=FRAME["rating"].astype(str) + ",5")
    frame.astype({"item_id": str}).to_csv(tmp_path / "b.csv", index=False, sep=";")
    path, where = tmp_path / "b.csv", tmp_path / "recipe.toml"
    options = f'path = "{path}"\ndelimiter = ";"\ndecimal = ","\ntypes = {{ item_id = "string" }}'
    recipe = parse_recipe(f'name = "b"\n[data]\nsource = "tables"\n[data.interactions]\n{options}\n{SIDES}', where)
    assert isinstance(recipe.data, OwnTables)
    OwnRows(recipe.data, lambda _: None).save(tmp_path / "tables2")
    assert Tables.load(tmp_path / "tables2").interactions["item_id"].tolist() == frame["item_id"].tolist()
    joined = replace(recipe.data.interactions, joined={"when": ("date", "time")})
    with pytest.raises(DataError, match=r"data.interactions.joined: .*b.csv has no column 'date'; there are: user_id"):
        OwnRows(replace(recipe.data, interactions=joined), lambda _: None)


def test_names_of_items_beside_their_ids_become_titles_without_a_header(tmp_path: Path) -> None:
    frame = FRAME.assign(name="The Band " + FRAME["item_id"].astype(str), note=[f"a remark {n}" for n in range(1000)])
    frame[["user_id", "note", "item_id", "name", "timestamp"]].to_csv(
        tmp_path / "plays.tsv", sep="\t", index=False, header=False
    )
    _, tables = answer(tmp_path, "plays.tsv")
    same(tables, ("user_id", "item_id", "timestamp"))
    assert tables.items.set_index("item_id").loc[1001, "title"] == "The Band 1001"
