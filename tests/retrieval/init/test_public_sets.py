"""Shapes of public data sets that name or nest things in ways of their own."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from retrieval.init.columns.profile import Given
from retrieval.init.plan import make_plan
from retrieval.init.sides import assigned
from retrieval.init.trial import tried
from tests.retrieval.init.test_shapes import FRAME, HEADER, ROWS, answer, lines, of_user, same
from workflows.errors import DataError, RecipeError


def objects(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def missing(directory: Path, **paths: str) -> list[str]:
    return tried(make_plan(paths, {}, directory), "a", directory / "recipe.toml", lambda _: None).missing


def test_the_title_of_a_review_is_not_that_of_its_product(tmp_path: Path) -> None:
    rows = [{"rating": rating, "title": f"Great {n}", "asin": f"B{item}", "parent_asin": f"B{item}", "user_id": user,
             "timestamp": time * 1000} for n, (user, item, rating, time) in enumerate(ROWS)]  # fmt: skip
    objects(tmp_path / "reviews.jsonl", rows)
    meta = [{"title": f"Product {item}", "price": f"${item}.50" if item % 2 else "", "parent_asin": f"B{item}"}
            for item in range(1000, 1061)]  # fmt: skip
    objects(tmp_path / "meta.jsonl", meta)
    _, tables = answer(tmp_path, "reviews.jsonl", items="meta.jsonl")
    items = tables.items.set_index("item_id")
    assert items.loc["B1001", "title"] == "Product 1001"
    assert items.loc["B1001", "price"] == 1001.5
    assert np.isnan(items.loc["B1002", "price"])
    _, tables = answer(tmp_path, "reviews.jsonl")
    assert set(tables.items["title"]) == set(tables.items["item_id"])


def test_a_rating_that_few_rows_have_costs_no_rows(tmp_path: Path) -> None:
    objects(tmp_path / "a.jsonl", [{"user": user, "item": item, "ts": time, "rating": rating if n > 900 else None}
                                   for n, (user, item, rating, time) in enumerate(ROWS)])  # fmt: skip
    trial, tables = answer(tmp_path, "a.jsonl")
    same(tables, ("user_id", "item_id", "timestamp"))
    assert not trial.said
    (why,) = [one.why for one in make_plan({"interactions": "a.jsonl"}, {}, tmp_path).decided if one.column == "rating"]
    assert why == "called like a rating, but 90% of the rows have none and would be left out"


@pytest.mark.parametrize(("column", "reason"), [
    ("ts", "timestamp: must be a number of seconds since 1970"), ("stars", "rating: must be a number"),
])  # fmt: skip
def test_numbers_of_json_stay_numbers_beside_one_text(tmp_path: Path, column: str, reason: str) -> None:
    rows = [dict(zip(("user", "item", "stars", "ts"), row, strict=True)) for row in ROWS]
    objects(tmp_path / "a.jsonl", [row | ({column: "unknown"} if n == 700 else {}) for n, row in enumerate(rows)])
    trial, tables = answer(tmp_path, "a.jsonl")
    assert trial.said == [f"left out: 1 of 1,000 rows of interactions: {reason}"]
    kept = FRAME.drop(index=700).reset_index(drop=True)
    pd.testing.assert_frame_equal(tables.interactions[[*HEADER]].astype("int64"), kept, check_dtype=False)
    assert 'kind = "temporal"' in trial.text


def test_what_is_called_like_a_time_and_is_not_read_as_one_is_told(tmp_path: Path) -> None:
    frame = FRAME[["user_id", "item_id"]].assign(time_stamp=511 + FRAME.index % 600)
    frame.to_csv(tmp_path / "log.csv", index=False)
    trial, _ = answer(tmp_path, "log.csv")
    told = "'time_stamp' is called like a time, but '511' is not read as one; if it is: --column timestamp=time_stamp"
    assert f"# there is no time to split by; {told} --timestamp-unit HOW" in trial.text
    assert 'kind = "random"' in trial.text


def test_an_order_joins_products_to_users_though_a_position_looks_like_one(tmp_path: Path) -> None:
    rows = {"order_id": FRAME.index // 5, "product_id": FRAME["item_id"], "add_to_cart_order": FRAME.index % 5 + 1}
    pd.DataFrame(rows).to_csv(tmp_path / "products.csv", index=False)
    orders = {"order_id": range(200), "user_id": [n // 5 + 1 for n in range(200)], "order_dow": 1}
    pd.DataFrame(orders).to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(DataError, match=r"orders.csv has 'user_id', and both have 'order_id': join .*\(order_id\)"):
        answer(tmp_path, "products.csv", users="orders.csv")


def test_the_id_of_items_is_the_one_that_the_interactions_name(tmp_path: Path) -> None:
    FRAME.rename(columns={"item_id": "book_id"}).to_csv(tmp_path / "a.csv", index=False)
    books = {"isbn": [f"0{n}X" for n in range(1000, 1061)], "book_id": range(1000, 1061), "pages": range(61)}
    pd.DataFrame(books).to_csv(tmp_path / "books.csv", index=False)
    _, tables = answer(tmp_path, "a.csv", items="books.csv")
    same(tables)
    assert tables.items["pages"].notna().all()


def test_names_that_end_with_id_or_name_are_those_of_what_they_begin_with(tmp_path: Path) -> None:
    beers = FRAME["item_id"]
    frame = pd.DataFrame({"brewery_id": beers % 9, "brewery_name": "Brewery " + (beers % 9).astype(str),
                          "review_time": FRAME["timestamp"], "review_overall": FRAME["rating"],
                          "review_profilename": "u" + FRAME["user_id"].astype(str), "beer_style": "Ale",
                          "beer_name": "A beer " + beers.astype(str), "beer_beerid": beers})  # fmt: skip
    frame.to_csv(tmp_path / "a.csv", index=False)
    _, tables = answer(tmp_path, "a.csv")
    same(tables, ("item_id", "rating", "timestamp"))
    assert tables.interactions["user_id"].tolist() == frame["review_profilename"].tolist()
    assert tables.items.set_index("item_id").loc[1001, "title"] == "A beer 1001"


def test_of_lists_the_one_that_is_called_like_items_is_taken_and_none_of_objects(tmp_path: Path) -> None:
    rows = [{"u": user, "items": str(items), "ratings": str([4.0] * len(items)), "n_items": len(items)}
            for user, items in of_user()]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "users.csv", index=False)
    _, tables = answer(tmp_path, "users.csv")
    pairs = [(user, item) for user, items in of_user() for item in items]
    assert [*map(tuple, tables.interactions[["user_id", "item_id"]].to_numpy())] == pairs
    rows = [{"userId": user, "profile": [{"group": "a"}, {"group": "b"}], "id": item} for user, item, *_ in ROWS]
    objects(tmp_path / "events.jsonl", rows)
    assert len(answer(tmp_path, "events.jsonl")[1].interactions) == 1000


NESTED: dict[str, Callable[[], Any]] = {
    "sessions.jsonl": lambda: [
        {"session": user, "events": [{"aid": item, "ts": 1.5e12, "type": "clicks"} for item in items]}
        for user, items in of_user()
    ],
    "objects.jsonl": lambda: [{"user": {"user_id": user}, "item": {"item_id": item}} for user, item, *_ in ROWS],
    "wrapped.json": lambda: [{"data": [{"user": user, "item": item} for user, item, *_ in ROWS]}],
    "columns.json": lambda: [{"user": [row[0] for row in ROWS], "item": [row[1] for row in ROWS]}],
    "by_user.json": lambda: [{str(user): items for user, items in of_user()}],
}


@pytest.mark.parametrize("name", [*NESTED, "matrix.csv"])
def test_what_is_nested_or_wide_is_refused_with_a_query_that_makes_rows_of_it(tmp_path: Path, name: str) -> None:
    if name in NESTED:
        objects(tmp_path / name, NESTED[name]())
    else:
        FRAME.pivot_table(index="user_id", columns="item_id", values="rating").to_csv(tmp_path / name)
    with pytest.raises(DataError, match=r"COPY \(.*\) TO 'rows.parquet'") as refused:
        answer(tmp_path, name)
    (query,) = re.findall(r"COPY \(.*\) TO 'rows.parquet'", str(refused.value))
    duckdb.sql(query.replace("rows.parquet", f"{tmp_path}/rows.parquet"))
    _, tables = answer(tmp_path, "rows.parquet")
    kept = sum(len(items) for _, items in of_user())
    assert len(tables.interactions) == (kept if name in ("sessions.jsonl", "by_user.json") else 1000)
    assert tables.interactions["user_id"].nunique() == 40


FOREIGN = {
    "a.mtx": ("%%MatrixMarket matrix coordinate real general\n40 60 2\n1 1 3\n", "a matrix of Matrix Market.*mmread"),
    "a.sql": ("INSERT INTO ratings VALUES (1,2),(1,3);\n", "statements of SQL"),
    "a.xml": ("<?xml version='1.0'?>\n<a><b>1</b></a>\n", "XML or HTML"),
    "beer.txt": ("beer/name: A\nbeer/id: 7\nreview/user: u\n\nbeer/name: B\nbeer/id: 8\nreview/user: u\n\n", "blocks"),
    "users.dat": (
        "".join(f"{len(items)} {' '.join(map(str, items))}\n" for _, items in of_user()),
        "name no user.*awk",
    ),
    "mysql.txt": ("+------+------+\n| user | item |\n+------+------+\n|    1 |    2 |\n", "drawn with lines.*--batch"),
    "a.svm": ("1 10:5 11:4\n2 10:3 12:1\n", "entries item:rating.*awk"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_text_that_is_no_table_is_refused_with_what_it_is(tmp_path: Path, name: str) -> None:
    text, message = FOREIGN[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"(?s){name}: .*{message}"):
        answer(tmp_path, name)


@pytest.mark.parametrize(("pattern", "unit"), [
    ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S"), ("%A, %d %B %Y %H:%M:%S", None), ("%A, %d %B %Y", "%A, %d %B %Y"),
])  # fmt: skip
def test_long_dates_and_numbers_of_digits_are_times(tmp_path: Path, pattern: str, unit: str | None) -> None:
    when = pd.to_datetime(FRAME["timestamp"], unit="s").dt.strftime(pattern)
    FRAME.assign(timestamp=when).rename(columns={"timestamp": "date"}).to_csv(tmp_path / "a.csv", index=False)
    trial, tables = answer(tmp_path, "a.csv")
    if unit is None:
        assert "'date' is called like a time, but 'Friday, " in trial.text
    else:
        assert f"timestamp_unit = {json.dumps(unit)}" in trial.text
        seconds = pd.to_datetime(when, format=pattern).astype("int64") // 10**9
        assert tables.interactions["timestamp"].tolist() == seconds.tolist()


@pytest.mark.parametrize(("encoding", "guessed", "name"), [
    ("cp1252", "cp1252", "“Smart” €{}"), ("latin-1", "latin-1", "Café {}"), ("cp1251", None, "Товар {}"),
])  # fmt: skip
def test_text_that_is_not_unicode_is_read_as_it_is_or_as_it_is_said(
    tmp_path: Path, encoding: str, guessed: str | None, name: str
) -> None:
    names = FRAME["item_id"].map(name.format)
    FRAME.assign(title=names).to_csv(tmp_path / "a.csv", index=False, encoding=encoding)
    said = {} if guessed else {"encoding": encoding}
    trial, tables = answer(tmp_path, "a.csv", **said)
    same(tables)
    assert tables.items.set_index("item_id").loc[1001, "title"] == name.format(1001)
    assert (f"so {guessed} is taken; --encoding says otherwise" in trial.text) == bool(guessed)


def test_a_thousand_in_quotes_is_one_item_and_of_names_the_items_is_the_title(tmp_path: Path) -> None:
    items = FRAME["item_id"]
    frame = pd.DataFrame({"Name": [f"#{n // 2}" for n in FRAME.index], "user": FRAME["user_id"],
                          "item": items.map("{:,}".format), "Lineitem name": items.map("Shirt {}".format),
                          "stars": FRAME["rating"].map("{} of 5".format)})  # fmt: skip
    frame.to_csv(tmp_path / "a.csv", index=False)
    _, tables = answer(tmp_path, "a.csv")
    assert tables.interactions["item_id"].tolist() == frame["item"].tolist()
    assert tables.items.set_index("item_id").loc["1,001", "title"] == "Shirt 1001"
    (why,) = [one.why for one in make_plan({"interactions": "a.csv"}, {}, tmp_path).decided if one.column == "stars"]
    assert why == f"called like a rating, but '{ROWS[0][2]} of 5' is no number"


def test_a_split_may_be_called_training_and_testing(tmp_path: Path) -> None:
    FRAME.assign(set=np.repeat(["training", "testing"], [800, 200])).to_csv(tmp_path / "a.csv", index=False)
    plan = make_plan({"interactions": "a.csv"}, {}, tmp_path)
    assert plan.split == '{ kind = "given", column = "set" }'
    assert not tried(plan, "a", tmp_path / "a.toml", lambda _: None).missing


def test_lines_of_which_most_are_shorter_are_not_left_out(tmp_path: Path) -> None:
    rows = "".join(
        f"{user},{item},{time}{',x' if n % 5 == 0 else ''}\n" for n, (user, item, _, time) in enumerate(ROWS)
    )
    (tmp_path / "a.csv").write_text("user,item,timestamp,note\n" + rows, encoding="utf-8")
    assert "must be a row of 4 fields, as the header" in missing(tmp_path, interactions="a.csv")[0]


def test_what_only_looks_like_counts_or_like_a_matrix_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1 10\n2 10 11\n3 10 11 12\n", encoding="utf-8")
    assert make_plan({"interactions": "train.txt"}, {}, tmp_path).tables["interactions"].rows == 6
    rows = [[f"user {user}", item, *range(900 - n, 875 - n, -1)] for n, (user, item, *_) in enumerate(ROWS)]
    (tmp_path / "wide.csv").write_text(lines(",", None, rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"there are: column0, column1, .*, \.\.\.; say which it is: .*a matrix"):
        make_plan({"interactions": "wide.csv"}, {}, tmp_path)
    plan = make_plan({"interactions": "wide.csv"}, {"interactions": {"item_id": "column1"}}, tmp_path)
    assert plan.tables["interactions"].rows == 1000


def test_a_workbook_is_refused_as_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as workbook:
        for part in ("[Content_Types].xml", "xl/workbook.xml"):
            workbook.writestr(part, "<a/>")
    with pytest.raises(DataError, match=r"a.xlsx: an Excel workbook; .*read_excel"):
        answer(tmp_path, "a.xlsx")


def test_addresses_phones_and_vectors_are_no_words_and_what_is_missing_names_its_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    rows = {"user_id": range(1, 41), "mail": [f"u{n}@example.org" for n in range(40)]}
    rows |= {"fone": [f"+49 30 {n:06d}" for n in range(40)], "likes": [str([0.1, n / 7]) for n in range(40)]}
    rows |= {"points": [np.inf if n == 3 else n / 7 for n in range(40)]}
    pd.DataFrame(rows).to_csv(tmp_path / "u.csv", index=False)
    plan = make_plan({"interactions": "a.csv", "users": "u.csv"}, {}, tmp_path)
    whys = {one.column: one.why for one in plan.of("users") if one.becomes == "left out"}
    assert whys["mail"] == "addresses"
    assert whys["fone"].endswith("nearly every row has its own")
    assert whys["likes"].startswith("lists of numbers")
    (problem,) = missing(tmp_path, interactions="a.csv", users="u.csv")
    assert problem.startswith("users: column 'points' makes a feature that is not finite")
    assert "inf" in problem


def test_a_tar_is_asked_for_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(lines(","), encoding="utf-8")
    with tarfile.open(tmp_path / "ml.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "ratings.csv", "ml/ratings.csv")
    named = f"tar://ml/ratings.csv::{tmp_path}/ml.tar.gz"
    with pytest.raises(DataError, match=f"is a tar archive; say which file of it is meant, such as {named}"):
        answer(tmp_path, "ml.tar.gz")
    same(answer(tmp_path, named)[1])
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "ml.tar.gz").read_bytes()[:700])
    with pytest.raises(DataError, match=r"cut.tar.gz: cannot be read \(Compressed file ended"):
        answer(tmp_path, "cut.tar.gz")


def test_a_unit_that_does_not_fit_the_times_is_told(tmp_path: Path) -> None:
    FRAME.assign(timestamp="2024-05-01 10:00").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"--timestamp-unit whenever: expected days, seconds"):
        answer(tmp_path, "a.csv", unit="whenever")
    plan = make_plan({"interactions": "a.csv"}, {}, tmp_path, None, "seconds")
    assert "no good row is left" in tried(plan, "a", tmp_path / "a.toml", lambda _: None).missing[0]


def test_words_for_null_are_so_in_files_of_every_kind(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.parquet")
    cities = ["", "NULL", "Rome", "Oslo"]
    users = pd.DataFrame({"user_id": range(1, 41), "city": [cities[n % 4] for n in range(40)]})
    users.to_parquet(tmp_path / "u.parquet")
    trial, tables = answer(tmp_path, "a.parquet", users="u.parquet")
    assert 'nulls = ["", "NULL"]' in trial.text
    assert tables.users["city"].isna().sum() == 20


def test_a_table_with_many_rows_of_an_item_is_asked_to_be_one_of_items(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    properties = "".join(f"{item},{name},{item % 7}\n" for item in range(1000, 1061) for name in ("kind", "size"))
    (tmp_path / "p.csv").write_text("item_id,property,value\n" + properties, encoding="utf-8")
    (problem,) = missing(tmp_path, interactions="a.csv", items="p.csv")
    assert "p.csv: 61 of 122 rows repeat a item_id" in problem
    assert "DISTINCT ON (item_id)" in problem


def test_types_in_recboles_headers_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines(","), encoding="utf-8")
    rows = "".join(
        f"{item}\tFilm {item}\t{['Animation Comedy', 'Drama'][item % 2]}\t0.1 {item / 9:.2f}\n"
        for item in range(1000, 1061)
    )
    header = "item_id:token\tmovie_title:token_seq\tclass:token_seq\tmeaning:float_seq\n"
    (tmp_path / "ml.item").write_text(header + rows, encoding="utf-8")
    trial, tables = answer(tmp_path, "a.csv", items="ml.item")
    assert tables.items.set_index("item_id").loc[1001, "title"] == "Film 1001"
    assert list(tables.items.set_index("item_id").loc[1002, "class"]) == ["Animation", "Comedy"]
    assert "# meaning: left out: lists of numbers" in trial.text


@pytest.mark.parametrize(("kinds", "first"), [(("pv", "cart", "fav", "buy"), "pv"), (("purchase", "play"), "play")])
def test_kinds_of_events_are_told_by_what_they_are_called(tmp_path: Path, kinds: tuple[str, ...], first: str) -> None:
    frame = FRAME.assign(kind=[kinds[n % len(kinds)] for n in FRAME.index])
    frame[["user_id", "item_id", "kind", "timestamp"]].to_csv(tmp_path / "a.csv", index=False, header=False)
    trial, tables = answer(tmp_path, "a.csv")
    assert set(tables.interactions["event"]) == set(kinds)
    assert "# kinds = " in trial.text
    assert first in trial.text


def test_lines_before_the_header_are_skipped_and_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Orders of a shop,,,\n,,,\n" + lines(","), encoding="utf-8")
    trial, tables = answer(tmp_path, "a.csv")
    same(tables)
    assert "# lines before its header: 2\nskip_lines = 2" in trial.text


def test_which_file_is_which_is_told_by_columns_else_by_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("movies.dat", "ratings.dat", "users.dat"):
        Path(name).write_text("1::2::3\n2::3::4\n", encoding="utf-8")
    said = dict.fromkeys(("interactions", "users", "items"), Given())
    tables = {"interactions": "ratings.dat", "users": "users.dat", "items": "movies.dat"}
    assert assigned(["movies.dat", "ratings.dat", "users.dat"], said) == tables
    Path("orders.csv").write_text("order_id,user_id\n1,2\n", encoding="utf-8")
    Path("order_products.csv").write_text("order_id,product_id\n1,2\n", encoding="utf-8")
    message = r"no file names both .*: orders.csv names no item, order_products.csv names no user; join two"
    with pytest.raises(RecipeError, match=message):
        assigned(["orders.csv", "order_products.csv"], said)
    rows = "".join(f"{n % 5},{n % 7},3\n" for n in range(20))
    Path("ratings.csv").write_text(f"userId,movieId,rating\n{rows}", encoding="utf-8")
    Path("tags.csv").write_text(f"userId,movieId,tag\n{rows}", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"^tags\.csv: names a user and an item in each row, as ratings\.csv does"):
        assigned(["ratings.csv", "tags.csv"], said)
    Path("users.csv").write_text("userId,favouriteMovie\n0,1\n1,1\n", encoding="utf-8")
    assert assigned(["ratings.csv", "users.csv"], said) == {"interactions": "ratings.csv", "users": "users.csv"}
