"""The file formats of MovieLens, one function for each, to the same canonical tables.

See the README of each archive, such as https://files.grouplens.org/datasets/movielens/ml-1m-README.txt.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import pandas as pd

from workflows.operators.times import MILLISECONDS
from workflows.progress import Progress
from workflows.sources.parsing import Archive, Number, check_header, csv_records, fail, read_numbers, records
from workflows.tables.store import Tables

MIRROR_FOLDER: Final = "recbole/dataset_example/ml-100k"

# fmt: off
GENRES_100K: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
NO_GENRE: Final = ("unknown", "(no genres listed)")
OCCUPATIONS_1M: Final = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)
# fmt: on

ID: Final = Number("user_id", low=1)
AGE: Final = Number("age", low=1, high=120)
FLAG: Final = Number("genre", low=0, high=1)
YEAR: Final = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\s*(?:\d{4})?)?\)(?:\s*\((?:V|TV|VG)\))?$")
"""A title as published: "Toy Story (1995)", "Land Before Time III (1995) (V)", "Fawlty Towers (1975-1979)"."""


def parse_100k(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-100k.zip`: `u.data` tab separated, `u.user` and `u.item` with bars, latin-1."""
    ratings = _ratings(archive, "ml-100k/u.data", "\t", 1, 1, progress)
    columns = ("user_id", "age", "gender", "occupation", "zip_code")
    file = archive.name("ml-100k/u.user")
    users = _users(records(archive.text("ml-100k/u.user", "latin-1"), file, "|", columns), file)
    file = archive.name("ml-100k/u.item")
    item_columns = ("item_id", "title", "release_date", "video_release_date", "url", *GENRES_100K)
    rows = records(archive.text("ml-100k/u.item", "latin-1"), file, "|", item_columns)
    return Tables(ratings, users, _items(((line, f[0], f[1], _flagged(f[5:], file, line)) for line, f in rows), file))


def parse_mirror(archive: Archive, progress: Progress) -> Tables:
    """Read the wheel's `ml-100k.{inter,user,item}`: tab separated, UTF-8, a header of `name:type`.

    Its items have the year in a column of its own, except where its makers met something they did not expect.
    """
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    ratings = _ratings(archive, f"{MIRROR_FOLDER}/ml-100k.inter", "\t", 1, 1, progress, header)
    file = f"{MIRROR_FOLDER}/ml-100k.user"
    user_columns = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
    users = _users(_after_header(archive, file, user_columns), file)
    file = f"{MIRROR_FOLDER}/ml-100k.item"
    item_columns = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    rows = _after_header(archive, file, item_columns)
    items = _items(((n, f[0], _as_published(f[1], f[2]), f[3].split()) for n, f in rows), file)
    return Tables(ratings, users, items)


def parse_1m(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-1m.zip`: `ratings.dat`, `users.dat` and `movies.dat`, `::` separated, latin-1."""
    ratings = _ratings(archive, "ml-1m/ratings.dat", "::", 1, 1, progress)
    file = archive.name("ml-1m/users.dat")
    rows = records(archive.text("ml-1m/users.dat", "latin-1"), file, "::", ("user_id", "gender", "age", "work", "zip"))
    users = _users(((n, [f[0], f[2], f[1], _occupation(f[3], file, n), f[4]]) for n, f in rows), file)
    file = archive.name("ml-1m/movies.dat")
    rows = records(archive.text("ml-1m/movies.dat", "latin-1"), file, "::", ("item_id", "title", "genres"))
    return Tables(ratings, users, _items(((n, f[0], f[1], f[2].split("|")) for n, f in rows), file))


def parse_csv(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-{20m,25m,32m}.zip`: `ratings.csv` and `movies.csv` with headers, UTF-8. Users have an id only."""
    folder = archive.path.stem
    header = ["userId", "movieId", "rating", "timestamp"]
    ratings = _ratings(archive, f"{folder}/ratings.csv", ",", 0.5, 0.5, progress, header)
    users = pd.DataFrame({"user_id": ratings["user_id"].drop_duplicates().sort_values(ignore_index=True)})
    file = archive.name(f"{folder}/movies.csv")
    rows = csv_records(archive.text(f"{folder}/movies.csv", "utf-8"), file, ("movieId", "title", "genres"))
    return Tables(ratings, users, _items(((n, f[0], f[1], f[2].split("|")) for n, f in rows), file))


def _ratings(
    archive: Archive,
    member: str,
    separator: str,
    lowest: float,
    step: float,
    progress: Progress,
    header: list[str] | None = None,
) -> pd.DataFrame:
    columns = [
        ID,
        Number("item_id", low=1),
        Number("rating", low=lowest, high=5, step=step, dtype="float32"),
        Number("timestamp", low=0, high=MILLISECONDS - 1),
    ]

    def source() -> IO[bytes]:
        # pandas is slow with separators of two characters, so they become one: ratings have no tabs.
        return archive.open(member) if len(separator) == 1 else io.BytesIO(_tabs(archive.read(member), separator))

    delimiter = separator if len(separator) == 1 else "\t"
    return read_numbers(source, archive.name(member), delimiter, columns, progress, header)


def _tabs(content: bytes, separator: str) -> bytes:
    return content.replace(separator.encode(), b"\t")


def _after_header(archive: Archive, file: str, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    rows = records(archive.text(file, "utf-8"), file, "\t", columns)
    check_header(next(rows, (1, []))[1], file, columns)
    return rows


def _number(column: Number, name: str, text: str, file: str, line: int) -> int:
    value = column.parse(text)
    if value is None:
        raise fail(file, line, name, text, column.expected)
    return int(value)


def _users(rows: Iterable[tuple[int, list[str]]], file: str) -> pd.DataFrame:
    """Fields: user_id, age, gender, occupation, zip_code."""
    users: list[tuple[Any, ...]] = []
    for line, (user, age, gender, occupation, zip_code) in rows:
        if gender not in ("F", "M"):
            raise fail(file, line, "gender", gender, "F or M")
        number = _number(ID, "user_id", user, file, line)
        users.append((number, _number(AGE, "age", age, file, line), gender, occupation, zip_code))
    return pd.DataFrame(users, columns=["user_id", "age", "gender", "occupation", "zip_code"])


def _items(rows: Iterable[tuple[int, str, str, list[str]]], file: str) -> pd.DataFrame:
    """Rows: line, item_id, title as published, genres."""
    items: list[tuple[Any, ...]] = []
    for line, item, published, genres in rows:
        title, year = split_title(published)
        if not title:
            raise fail(file, line, "title", published, "a title")
        known = [genre for genre in genres if genre and genre not in NO_GENRE]
        items.append((_number(ID, "item_id", item, file, line), title, year, known))
    return pd.DataFrame(items, columns=["item_id", "title", "year", "genres"]).astype({"year": "float64"})


def split_title(published: str) -> tuple[str, float]:
    """Split "Toy Story (1995)" into title and year; the year is NaN if there is none."""
    match = YEAR.match(published.strip())
    return (match["title"], float(match["year"])) if match else (published.strip(), float("nan"))


def _as_published(title: str, year: str) -> str:
    """Undo the mirror's splitting, which gave a video the year "V" and "unknown" the year "unkonwn"."""
    if year == "unkonwn":
        return "unknown"
    return f"{title} ({year})"


def _flagged(flags: list[str], file: str, line: int) -> list[str]:
    chosen = (_number(FLAG, genre, flag, file, line) for genre, flag in zip(GENRES_100K, flags, strict=True))
    return [genre for genre, flag in zip(GENRES_100K, chosen, strict=True) if flag]


def _occupation(code: str, file: str, line: int) -> str:
    return OCCUPATIONS_1M[_number(Number("occupation", low=0, high=20), "occupation", code, file, line)]
