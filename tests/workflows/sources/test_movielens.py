"""MovieLens in every published format, from a publisher that may misbehave, and the real 100k."""

from __future__ import annotations

import hashlib
import socket
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflows.config import MovieLens
from workflows.errors import DataError, DownloadError
from workflows.sources.movielens import Publication, fetch
from workflows.sources.movielens_formats import split_title
from workflows.tables.store import Tables, merge_items

Files = dict[str, bytes]

ML_100K: Files = {
    "ml-100k/u.data": b"196\t242\t3\t881250949\n186\t267\t3\t891717742\n196\t1412\t1\t878887116\n",
    "ml-100k/u.user": b"186|24|M|technician|85711\n196|53|F|other|T8H1N\n",
    "ml-100k/u.item": (
        "242|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Mis%E9rables%2C%20Les%20%281995%29|"
        "0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0\n"
        "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "1412|Land Before Time III: The Time of the Great Giving (1995) (V)|01-Jan-1995||http://us.imdb.com/M/|"
        "0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    ).encode("latin-1"),
}
ML_1M: Files = {
    "ml-1m/ratings.dat": b"1::1193::5::978300760\n2::661::3::978302109\n",
    "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    "ml-1m/movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Star Wars: Épisode\x85 V (1980)::Action\n"
    ).encode("latin-1"),
}
CSV: Files = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n7,296,5.0,1147880044\n2,306,3.5,1147868817\n7,5,0.5,1147868828\n",
    "movies.csv": (
        'movieId,title,genres\n296,"Usual Suspects, The (1995) ",Crime|Mystery\n306,"Say ""Hi"" é (1975-1979)",Drama\n'
        "5,Untitled,(no genres listed)\n"
    ).encode(),
}


def files_of(variant: str) -> Files:
    """A tiny data set of any variant, with what is odd in the real one."""
    named = {"100k": ML_100K, "1m": ML_1M}
    return dict(named.get(variant) or {f"ml-{variant}/{name}": content for name, content in CSV.items()})


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def md5_of(path: Path) -> str:
    return "md5:" + hashlib.md5(path.read_bytes()).hexdigest()


# The order of the flags in u.item, from its README.
# fmt: off
GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on
Publish = Callable[..., AbstractContextManager[Any]]
FetchFiles = Callable[[str, Files], Tables]


@pytest.fixture
def fetch_files(publish: Publish, tmp_path: Path) -> FetchFiles:
    """Through the real path: served over HTTP, checksum verified, cached, parsed."""

    def fetch_them(variant: Any, files: Files) -> Tables:
        archive = write_zip(tmp_path / "published.zip", files)
        with publish(archive.read_bytes()) as server:
            published = {variant: Publication(server.url, md5_of(archive))}
            return fetch(MovieLens(variant=variant), tmp_path / "cache", lambda line: None, published)

    return fetch_them


def test_100k_is_read_as_published(fetch_files: FetchFiles) -> None:
    tables = fetch_files("100k", files_of("100k"))
    assert tables.interactions.to_numpy().tolist()[0] == [196, 242, 3, 881250949]
    assert tables.users.to_numpy().tolist() == [[186, 24, "M", "technician", "85711"], [196, 53, "F", "other", "T8H1N"]]
    assert tables.items["title"].tolist() == [
        "Misérables, Les",
        "unknown",
        "Land Before Time III: The Time of the Great Giving",
    ]
    np.testing.assert_array_equal(tables.items["year"], [1995, np.nan, 1995])
    assert tables.items["genres"].tolist() == [["Drama", "Musical"], [], ["Animation", "Children's"]]


def test_1m_is_read_as_published(fetch_files: FetchFiles) -> None:
    tables = fetch_files("1m", files_of("1m"))
    assert tables.interactions["timestamp"].tolist() == [978300760, 978302109]
    assert tables.users.to_numpy().tolist()[1] == [2, 56, "M", "self-employed", "70072-1234"]
    assert tables.items["title"].tolist() == ["James and the Giant Peach", "Star Wars: Épisode\x85 V"]
    assert tables.items["genres"].tolist()[0] == ["Animation", "Children's", "Musical"]


@pytest.mark.parametrize("variant", ["20m", "25m", "32m"])
def test_the_csv_data_sets_are_read_as_published(variant: str, fetch_files: FetchFiles) -> None:
    tables = fetch_files(variant, files_of(variant))
    assert tables.interactions["rating"].tolist() == [5.0, 3.5, 0.5]
    assert tables.interactions["user_id"].tolist() == [7, 2, 7]
    assert tables.users.to_dict("list") == {"user_id": [2, 7]}
    assert tables.items["title"].tolist() == ["Usual Suspects, The", 'Say "Hi" é', "Untitled"]
    np.testing.assert_array_equal(tables.items["year"], [1995, 1975, np.nan])
    assert tables.items["genres"].tolist() == [["Crime", "Mystery"], ["Drama"], []]


@pytest.mark.parametrize(
    ("variant", "member", "old", "new", "words"),
    [
        ("100k", "ml-100k/u.data", b"186\t267\t3", b"186\tx\t3", ["u.data, line 2", "item_id", "'x'", ">= 1"]),
        ("100k", "ml-100k/u.data", b"\t3\t891", b"\t6\t891", ["u.data, line 2", "rating", "'6'", "from 1 to 5"]),
        ("100k", "ml-100k/u.data", b"878887116", b"878887116000", ["line 3", "timestamp", "'878887116000'"]),
        (
            "100k",
            "ml-100k/u.data",
            b"186\t267\t3\t",
            b"186\t267\t",
            ["u.data, line 2", "4 fields (user_id, item_id, rating, timestamp)", "891717742"],
        ),
        ("100k", "ml-100k/u.data", b"196\t242\t3", b"196\t242\t9\t3", ["u.data, line 1", "4 fields", "'9', '3'"]),
        ("100k", "ml-100k/u.data", b"186\t267", b"186\t99999999999999999999", ["line 2", "item_id", "999999"]),
        ("100k", "ml-100k/u.data", b"186\t267", b"186\t" + b"9" * 400, ["u.data, line 2", "item_id", "'999999"]),
        ("100k", "ml-100k/u.data", b"186\t", b"999\t", ["interactions", "user_id", "999", "row 1"]),
        ("100k", "ml-100k/u.user", b"|53|", b"|-3|", ["u.user, line 2", "age", "'-3'", "from 1 to 120"]),
        ("100k", "ml-100k/u.user", b"|F|", b"||", ["u.user, line 2", "gender", "''", "F or M"]),
        ("100k", "ml-100k/u.item", b"||||1|", b"||||2|", ["u.item, line 2", "unknown", "'2'", "from 0 to 1"]),
        ("100k", "ml-100k/u.item", b"1412|", b"242|", ["items", "item_id", "unique", "242", "row 2"]),
        ("1m", "ml-1m/users.dat", b"::16::", b"::21::", ["users.dat, line 2", "occupation", "'21'", "from 0 to 20"]),
        ("1m", "ml-1m/movies.dat", b"::Action", b"", ["movies.dat, line 2", "3 fields (item_id, title, genres)"]),
        ("25m", "ml-25m/ratings.csv", b"3.5", b"3.7", ["ratings.csv, line 3", "rating", "'3.7'", "steps of 0.5"]),
        ("25m", "ml-25m/ratings.csv", b"3.5", b"nan", ["ratings.csv, line 3", "rating", "'nan'"]),
        ("25m", "ml-25m/ratings.csv", b"userId", b"user", ["ratings.csv, line 1", "header", "userId,movieId"]),
        ("25m", "ml-25m/movies.csv", b"movieId", b"id", ["movies.csv, line 1", "header", "movieId,title"]),
        ("25m", "ml-25m/movies.csv", "é".encode(), b"\xe9", ["movies.csv, line 3", "utf-8"]),
    ],
)
def test_a_wrong_value_is_reported_with_file_line_column_and_expectation(
    variant: str, member: str, old: bytes, new: bytes, words: list[str], fetch_files: FetchFiles
) -> None:
    files = files_of(variant)
    assert old in files[member]
    files[member] = files[member].replace(old, new, 1)
    with pytest.raises(DataError) as caught:
        fetch_files(variant, files)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert f"ml-{variant}.zip" in str(caught.value)


def test_an_archive_without_its_table_is_refused_and_nothing_is_unpacked(
    fetch_files: FetchFiles, tmp_path: Path
) -> None:
    files = {"../evil": b"x", **files_of("100k")}
    del files["ml-100k/u.user"]
    with pytest.raises(DataError, match=r"has no ml-100k/u\.user"):
        fetch_files("100k", files)
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.rglob("u.data"))


def test_a_second_fetch_needs_no_network_and_says_so(fetch_files: FetchFiles, tmp_path: Path) -> None:
    first = fetch_files("1m", files_of("1m"))
    lines: list[str] = []
    published = {"1m": Publication("http://127.0.0.1:9/ml-1m.zip", md5_of(tmp_path / "published.zip"))}
    again = fetch(MovieLens(variant="1m"), tmp_path / "cache", lines.append, published)
    pd.testing.assert_frame_equal(first.interactions, again.interactions)
    assert lines == [f"MovieLens 1m: from the cache, {tmp_path / 'cache' / 'ml-1m.zip'}"]


def test_a_damaged_cache_is_downloaded_again(fetch_files: FetchFiles, tmp_path: Path) -> None:
    fetch_files("1m", files_of("1m"))
    cached = tmp_path / "cache" / "ml-1m.zip"
    cached.write_bytes(cached.read_bytes()[:-1] + b"?")
    assert len(fetch_files("1m", files_of("1m")).interactions) == 2


def test_another_checksum_than_the_published_one_is_refused_and_nothing_kept(publish: Publish, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", files_of("1m"))
    with publish(archive.read_bytes()) as server, pytest.raises(DownloadError) as caught:
        fetch(MovieLens(variant="1m"), tmp_path / "cache", lambda line: None, {"1m": Publication(server.url, "md5:0")})
    assert md5_of(archive) in str(caught.value)
    assert "expected the published md5:0" in str(caught.value)
    assert not list((tmp_path / "cache").glob("ml-1m*"))


def test_an_unreachable_publisher_names_the_file_to_bring_by_hand(tmp_path: Path) -> None:
    published = {"25m": Publication(f"{closed_address()}/ml-25m.zip", "md5:0")}
    with pytest.raises(DownloadError) as caught:
        fetch(MovieLens(variant="25m"), tmp_path, lambda line: None, published)
    assert "cannot be reached" in str(caught.value)
    assert str(tmp_path / "ml-25m.zip") in str(caught.value)


def test_where_the_publisher_cannot_be_reached_100k_comes_from_the_package_index(
    movielens_100k: Tables, tmp_path: Path
) -> None:
    lines: list[str] = []
    published = {"100k": Publication(f"{closed_address()}/ml-100k.zip", "md5:0")}
    tables = fetch(MovieLens(variant="100k"), tmp_path, lines.append, published)
    pd.testing.assert_frame_equal(tables.interactions, movielens_100k.interactions)
    assert "cannot be reached" in lines[1]
    assert "package index instead" in lines[1]
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["recbole-1.2.1.whl"]


def closed_address() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@pytest.mark.parametrize(
    ("published", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Seven (a.k.a. Se7en) (1995)", "Seven (a.k.a. Se7en)", 1995),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Fargo (2014– )", "Fargo", 2014),
        ("Movie 43", "Movie 43", None),
        ("(500) Days of Summer (2009)", "(500) Days of Summer", 2009),
        ("1984", "1984", None),
        ("(1995)", "(1995)", None),
    ],
)
def test_titles_lose_their_year_and_nothing_else(published: str, title: str, year: int | None) -> None:
    stripped, when = split_title(published)
    assert stripped == title
    assert when == year or (year is None and np.isnan(when))


def test_the_real_100k_has_its_published_counts(movielens_100k: Tables) -> None:
    tables = movielens_100k
    assert (len(tables.interactions), len(tables.users), len(tables.items)) == (100_000, 943, 1_682)
    assert tables.interactions.iloc[[0, -1]].to_numpy().tolist() == [[196, 242, 3, 881250949], [12, 203, 3, 879959583]]
    assert tables.items["item_id"].tolist() == list(range(1, 1683))
    assert tables.items["title"].nunique() == 1_659
    assert tables.items.loc[tables.items["year"].isna(), "title"].tolist() == ["unknown"]
    assert {genre for genres in tables.items["genres"] for genre in genres} > {"Film-Noir", "Children's", "Sci-Fi"}


def test_the_real_100k_merged_by_title_keeps_every_row_in_order(movielens_100k: Tables) -> None:
    merged = merge_items(movielens_100k, "title")
    assert len(merged.items) == 1_659
    untouched = ["user_id", "rating", "timestamp"]
    pd.testing.assert_frame_equal(merged.interactions[untouched], movielens_100k.interactions[untouched])
    titles = [t.interactions.merge(t.items, on="item_id", how="left")["title"] for t in (merged, movielens_100k)]
    pd.testing.assert_series_equal(*titles)


def test_the_mirror_and_the_publisher_give_the_same_table(movielens_100k: Tables, fetch_files: FetchFiles) -> None:
    files = as_published(movielens_100k)
    tables = fetch_files("100k", files)
    for name in ("interactions", "users", "items"):
        pd.testing.assert_frame_equal(getattr(tables, name), getattr(movielens_100k, name))


def as_published(tables: Tables) -> dict[str, bytes]:
    """The tables as GroupLens writes them, oddities included."""
    items = []
    for item in tables.items.itertuples():
        suffix = "" if np.isnan(item.year) else f" ({item.year:.0f})" + " (V)" * (item.item_id == 1412)
        flags = [str(int(genre in (item.genres or ["unknown"]))) for genre in GENRES]
        items.append("|".join([str(item.item_id), item.title + suffix, "", "", "", *flags]))
    ratings = tables.interactions.astype({"rating": int})
    return {
        "ml-100k/u.data": ratings.to_csv(sep="\t", header=False, index=False, lineterminator="\n").encode(),
        "ml-100k/u.user": tables.users.to_csv(sep="|", header=False, index=False, lineterminator="\n").encode(),
        "ml-100k/u.item": ("\n".join(items) + "\n").encode("latin-1"),
    }


def test_a_zip_that_claims_to_unpack_to_more_than_a_disk_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "ml-1m.zip", files_of("1m"))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("ml-1m/movies.dat").file_size
    at = content.rfind(b"PK\x01\x02")
    assert int.from_bytes(content[at + 24 : at + 28], "little") == size
    content[at + 24 : at + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    (tmp_path / "cache").mkdir()
    path.replace(tmp_path / "cache" / "ml-1m.zip")
    published = {"1m": Publication("", md5_of(tmp_path / "cache" / "ml-1m.zip"))}
    with pytest.raises(DataError, match=r"movies\.dat unpacks to 3,221,225,472 bytes"):
        fetch(MovieLens(variant="1m"), tmp_path / "cache", lambda line: None, published)
