"""The file formats of MovieLens, one function for each, to the same canonical tables.

See the README of each archive, such as https://files.grouplens.org/datasets/movielens/ml-1m-README.txt.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import IO, Any, Final

import pandas as pd

from workflows.operators.times import MILLISECONDS
from workflows.progress import Progress
from workflows.sources.parsing import Archive, Line, Number, NumberTable
from workflows.tables.store import Tables

MIRROR_FOLDER: Final = "recbole/dataset_example/ml-100k"

# fmt: off
GENRES_100K: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
USER_COLUMNS: Final = ("user_id", "age", "gender", "occupation", "zip_code")
NO_GENRE: Final = ("unknown", "(no genres listed)")
OCCUPATIONS_1M: Final = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)
# fmt: on

USER: Final = Number("user_id", low=1)
ITEM: Final = Number("item_id", low=1)
AGE: Final = Number("age", low=1, high=120)
OCCUPATION: Final = Number("occupation", low=0, high=20)
YEAR: Final = re.compile(r"^(?P<title>.*\S)\s*\((?P<year>\d{4})(?:[-–]\s*(?:\d{4})?)?\)(?:\s*\((?:V|TV|VG)\))?$")
"""A title as published: "Toy Story (1995)", "Land Before Time III (1995) (V)", "Fawlty Towers (1975-1979)"."""


def parse_100k(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-100k.zip`: `u.data` tab separated, `u.user` and `u.item` with bars, latin-1."""
    ratings = _ratings(archive, "ml-100k/u.data", "\t", 1, 1, progress)
    users = archive.records("ml-100k/u.user", "latin-1", "|", USER_COLUMNS)
    item_columns = ("item_id", "title", "release_date", "video_release_date", "url", *GENRES_100K)
    items = archive.records("ml-100k/u.item", "latin-1", "|", item_columns)
    return Tables(ratings, _users(users), _items((line, line.fields[1], _flagged(line)) for line in items))


def parse_mirror(archive: Archive, progress: Progress) -> Tables:
    """Read the wheel's `ml-100k.{inter,user,item}`: tab separated, UTF-8, a header of `name:type`.

    Its items have the year in a column of its own, except where its makers met something they did not expect.
    """
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    ratings = _ratings(archive, f"{MIRROR_FOLDER}/ml-100k.inter", "\t", 1, 1, progress, header)
    user_columns = [f"{name}:token" for name in USER_COLUMNS]
    users = archive.records(f"{MIRROR_FOLDER}/ml-100k.user", "utf-8", "\t", user_columns, header=True)
    item_columns = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    items = archive.records(f"{MIRROR_FOLDER}/ml-100k.item", "utf-8", "\t", item_columns, header=True)
    published = ((line, _as_published(*line.fields[1:3]), line.fields[3].split()) for line in items)
    return Tables(ratings, _users(users), _items(published))


def parse_1m(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-1m.zip`: `ratings.dat`, `users.dat` and `movies.dat`, `::` separated, latin-1."""
    ratings = _ratings(archive, "ml-1m/ratings.dat", "::", 1, 1, progress)
    users = archive.records("ml-1m/users.dat", "latin-1", "::", ("user_id", "gender", "age", "work", "zip"))
    movies = archive.records("ml-1m/movies.dat", "latin-1", "::", ("item_id", "title", "genres"))
    return Tables(ratings, _users(map(_as_in_100k, users)), _movies(movies))


def parse_csv(archive: Archive, progress: Progress) -> Tables:
    """Read `ml-{20m,25m,32m}.zip`: `ratings.csv` and `movies.csv` with headers, UTF-8. Users have an id only."""
    folder = archive.path.stem
    header = ["userId", "movieId", "rating", "timestamp"]
    ratings = _ratings(archive, f"{folder}/ratings.csv", ",", 0.5, 0.5, progress, header)
    users = pd.DataFrame({"user_id": ratings["user_id"].drop_duplicates().sort_values(ignore_index=True)})
    return Tables(ratings, users, _movies(archive.csv_records(f"{folder}/movies.csv", ("movieId", "title", "genres"))))


def _ratings(
    archive: Archive,
    member: str,
    separator: str,
    lowest: float,
    step: float,
    progress: Progress,
    header: list[str] | None = None,
) -> pd.DataFrame:
    rating = Number("rating", low=lowest, high=5, step=step, dtype="float32")
    columns = [USER, ITEM, rating, Number("timestamp", low=0, high=MILLISECONDS - 1)]

    def source() -> IO[bytes]:
        # pandas is slow with separators of two characters, so they become one: ratings have no tabs.
        if len(separator) == 1:
            return archive.open(member)
        return io.BytesIO(archive.read(member).replace(separator.encode(), b"\t"))

    delimiter = separator if len(separator) == 1 else "\t"
    return NumberTable(source, archive.name(member), delimiter, columns, header).read(progress)


def _users(lines: Iterable[Line]) -> pd.DataFrame:
    """Lines of the fields USER_COLUMNS."""
    users: list[tuple[Any, ...]] = []
    for line in lines:
        user, age, gender, occupation, zip_code = line.fields
        if gender not in ("F", "M"):
            raise line.error("gender", gender, "F or M")
        users.append((int(line.parsed(USER, user)), int(line.parsed(AGE, age)), gender, occupation, zip_code))
    return pd.DataFrame(users, columns=list(USER_COLUMNS))


def _movies(lines: Iterable[Line]) -> pd.DataFrame:
    """Lines of an id, a title as published, and genres with bars."""
    return _items((line, line.fields[1], line.fields[2].split("|")) for line in lines)


def _items(rows: Iterable[tuple[Line, str, list[str]]]) -> pd.DataFrame:
    """Rows: a line that begins with the item's id, its title as published, its genres."""
    items: list[tuple[Any, ...]] = []
    for line, published, genres in rows:
        title, year = split_title(published)
        if not title:
            raise line.error("title", published, "a title")
        known = [genre for genre in genres if genre and genre not in NO_GENRE]
        items.append((int(line.parsed(ITEM, line.fields[0])), title, year, known))
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


def _flagged(line: Line) -> list[str]:
    flags = zip(GENRES_100K, line.fields[5:], strict=True)
    return [genre for genre, flag in flags if line.parsed(Number(genre, low=0, high=1), flag)]


def _as_in_100k(line: Line) -> Line:
    """Return a line of 1m's users with the fields USER_COLUMNS."""
    user, gender, age, work, zip_code = line.fields
    return line._replace(fields=[user, age, gender, OCCUPATIONS_1M[int(line.parsed(OCCUPATION, work))], zip_code])
