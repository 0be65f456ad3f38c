"""One of the user's own tables, as `[data.interactions]`, `[data.users]` and `[data.items]` describe it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from workflows.section import Section

Kind = Literal["integer", "float", "string", "datetime"]
BadRows = Literal["refuse", "drop"]
TimestampUnit = Annotated[
    str, Meta(pattern="^(seconds|milliseconds|microseconds|nanoseconds|iso|datetime|.*%[a-zA-Z].*)$")
]


class TableFile(Section, frozen=True, kw_only=True):
    """A parquet or CSV file, a directory of them, or a pattern such as `clicks/2024-*.parquet`."""

    path: str = ""
    """A path relative to the recipe, an absolute one, or any address that fsspec knows, such as `s3://bucket/clicks`.
    Of a directory the files are read in the order of their names; those that begin with `.` or `_` are not. Folders
    called `name=value` are a column. Only interactions whose parts are files (`split` of kind `given`) have none."""
    format: Literal["auto", "parquet", "csv"] = "auto"
    """`auto` goes by the endings of the names: .parquet, .pq; .csv, .tsv, .txt, also compressed (.gz, .bz2, .xz)."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name = the file's name: `{ user_id = "uid", item_id = "sku" }`. Other columns keep their names."""
    ignore: tuple[str, ...] = ()
    """Columns, by the file's names, that are not read."""
    types: dict[str, Kind] = field(default_factory=dict)
    """Type of a column, by our name, where it should not be the file's own (parquet) or what its rows look like (CSV:
    the first rows of the interactions, all of users and items; numbers that begin with 0 are text). A `datetime`, in
    text such as 2024-05-01 or 2024-05-01T12:30:00Z, becomes seconds since 1970."""
    lists: dict[str, str] = field(default_factory=dict)
    """Text columns, by our name, that hold lists, and what stands between the entries: `{ genres = "|" }`."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ("",)
    """What a CSV file writes for a value that is not there."""
    storage: dict[str, Any] = field(default_factory=dict)
    """Options of the fsspec file system, such as `{ anon = true }`. Keep secrets out of recipes: fsspec reads them from
    the environment or from its own configuration files."""
