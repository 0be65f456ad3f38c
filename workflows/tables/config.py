"""One of the user's own tables, as `[data.interactions]`, `[data.users]` and `[data.items]` describe it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from workflows.section import Section

Kind = Literal["integer", "float", "string", "datetime"]
Format = Literal["auto", "csv", "json", "parquet", "arrow", "sqlite", "duckdb", "adjacency", "netflix"]
BadRows = Literal["refuse", "drop"]
UNITS = "^(days|excel|order|seconds|milliseconds|microseconds|nanoseconds|iso|datetime|.*%[a-zA-Z].*)$"
TimestampUnit = Annotated[str, Meta(pattern=UNITS)]


class TableFile(Section, frozen=True, kw_only=True):
    """A file, a directory of them, or a pattern such as `clicks/2024-*.parquet`: text, JSON, Parquet, Arrow, or a table
    of SQLite or DuckDB; also compressed with gzip, bzip2, xz or Zstandard, or alone in a zip archive."""

    path: str = ""
    """A path relative to the recipe, an absolute one, or any address that fsspec knows, such as `s3://bucket/clicks`.
    Of a directory the files are read in the order of their names; those that begin with `.` or `_` are not. Folders
    called `name=value` are a column. One file of several in an archive: `zip://ml-100k/u.data::/path/to/ml-100k.zip`.
    Only interactions whose parts are files (`split` of kind `given`) have none."""
    format: Format = "auto"
    """`auto` goes by what the files begin with. `csv` is text with any delimiter; `json` has an object per line, or an
    array of them; `adjacency` has lines such as `user item item ...`; `netflix` has lines `movie:`, each followed by
    lines `user,rating,date`."""
    table: str | None = None
    """Table of an SQLite or DuckDB database that has several."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name = the file's name: `{ user_id = "uid", item_id = "sku" }`. Other columns keep their names."""
    ignore: tuple[str, ...] = ()
    """Columns, by the file's names, that are not read."""
    types: dict[str, Kind] = field(default_factory=dict)
    """Type of a column, by our name, where it should not be the file's own or what its rows look like (text:
    the first rows of the interactions, all of users and items; numbers that begin with 0 are text). A `datetime`, in
    text such as 2024-05-01 or 2024-05-01T12:30:00Z, becomes seconds since 1970."""
    lists: dict[str, str] = field(default_factory=dict)
    """Text columns, by our name, that hold lists, and what stands between the entries: `{ genres = "|" }`."""
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """New columns: the texts of others, by the file's names, with a blank between, such as
    `{ timestamp = ["date", "time"] }`; of a date its day."""
    explode: str | None = None
    """A column, by the file's name, that holds lists: its row becomes a row for each entry. Of text, `lists` says what
    stands between the entries."""
    explode_only: str = ""
    """Of the entries of `explode` those that end so, without that end: of impressions such as `N1-0 N2-1`, `"-1"` keeps
    what was clicked."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=4)] = ","
    """What stands between the fields of text; several characters where it is `::` or such. A space, where nothing is
    quoted (`quote = ""`), is any run of spaces."""
    header: bool = True
    """Whether text begins with a line of the columns' names."""
    names: tuple[str, ...] = ()
    """Names of the columns in their order, where text has no header, or another one. A column called `""` is not
    read."""
    skip_lines: Annotated[int, Meta(ge=0)] = 0
    """Lines before the header, or before the rows."""
    quote: Annotated[str, Meta(max_length=1)] = '"'
    """What encloses fields that hold the delimiter; `""`: nothing does."""
    escape: Annotated[str, Meta(max_length=1)] = ""
    """What stands before a quote inside quotes, such as a backslash; `""`: it is written twice."""
    decimal: Literal[".", ","] = "."
    """What text has before the decimals; with `,` a point stands between thousands. Ids, lists and columns whose
    `types` is string stay as they are."""
    amounts: tuple[str, ...] = ()
    """Text columns, by the file's names, whose numbers have a currency, a percent sign or signs between thousands:
    `$1,234.50` is read as 1234.5 and `48%` as 48."""
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ("",)
    """Texts that stand for a value that is not there, in files of every kind."""
    storage: dict[str, Any] = field(default_factory=dict)
    """Options of the fsspec file system, such as `{ anon = true }`. Keep secrets out of recipes: fsspec reads them from
    the environment or from its own configuration files."""
