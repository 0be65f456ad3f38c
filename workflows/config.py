"""The recipe's `[data]`, `[query.features]` and `[item.features]`: validated, frozen, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Union

from msgspec import Meta, field
from msgspec.structs import replace

from workflows.features.kinds import Age as Age
from workflows.features.kinds import Aggregate as Aggregate
from workflows.features.kinds import Bucketized as Bucketized
from workflows.features.kinds import Categorical as Categorical
from workflows.features.kinds import ColumnFeature as ColumnFeature
from workflows.features.kinds import Continuous as Continuous
from workflows.features.kinds import Cross as Cross
from workflows.features.kinds import Embedding as Embedding
from workflows.features.kinds import Feature as Feature
from workflows.features.kinds import FeatureSide as FeatureSide
from workflows.features.kinds import MultiHot as MultiHot
from workflows.features.kinds import Sequence as Sequence
from workflows.features.kinds import Text as Text
from workflows.features.kinds import Time as Time
from workflows.section import Fraction
from workflows.section import PositiveInt as PositiveInt
from workflows.section import Section as Section
from workflows.tables.config import BadRows, TableFile, TimestampUnit

Device = Literal["auto", "gpu", "cpu"]
Asked = Literal["all", "known", "continued"]
"""Which rows of validation and test are asked for; `continued`: those of playlists that nothing was learned from."""


class RandomSplit(Section, tag_field="kind", tag="random", frozen=True, kw_only=True):
    """Rows shuffled by `numpy.random.default_rng(seed).permutation`; the last part is the test."""

    test: Fraction = 0.2
    """Share of all rows that is test."""
    validation: Fraction = 0.1
    """Share of the remaining rows that is validation (the last of them in the shuffled order)."""
    seed: int = 42


class TemporalSplit(Section, tag_field="kind", tag="temporal", frozen=True, kw_only=True):
    """The last rows in time are the test, the last of the rest are validation."""

    test: Fraction = 0.1
    """Share of all rows, by time, that is test."""
    validation: Fraction = 0.1
    """Share of the remaining rows, by time, that is validation."""
    asked: Asked = "all"
    """`known`: validation and test ask only for rows whose user and item both occur in the rows before, as figures that
    are published for models of user ids do. All rows are learned from, and evaluation reports the others as a group."""


class LeaveLastOutSplit(Section, tag_field="kind", tag="leave-last-out", frozen=True, kw_only=True):
    """Each user's last interaction is test, the one before it validation."""

    asked: Asked = "all"
    """As for the temporal split."""


Split = Union[RandomSplit, TemporalSplit, LeaveLastOutSplit]


class GivenSplit(Section, tag_field="kind", tag="given", frozen=True, kw_only=True):
    """Parts that somebody published: files, or a column that names each row's part.

    Either `train` and `test`, files as `[data.interactions]` describes them, which then has no `path`; or `column`.
    """

    train: str | None = None
    """The file of the training rows; a path as `data.interactions.path` may be one."""
    validation: str | None = None
    """That of the validation rows. Without it they are taken from the training rows: each user's last one, of users
    with three or more, where rows have times and no training row is later than a test row of its user; else a random
    share of all training rows."""
    test: str | None = None
    """That of the test rows."""
    column: str | None = None
    """The interactions' column, by our name, that holds `train`, `validation` (or `valid`, `val`, `dev`) or `test`."""
    validation_share: Fraction = 0.1
    """Share of the training rows that is validation, where it is taken from them at random."""
    seed: int = 42
    """Of that choice."""
    asked: Asked = "all"
    """As for the temporal split."""

    def __post_init__(self) -> None:
        """Refuse parts that are told twice or not at all."""
        if self.column is None and (self.train is None or self.test is None):
            raise ValueError('`split` of kind "given" needs `train` and `test`, two files, or `column`')
        if self.column is not None and self.files:
            raise ValueError('`split` of kind "given" takes files or `column`, not both')

    @property
    def files(self) -> dict[str, str]:
        """Return the path of each part that is a file of its own, by the part's name."""
        paths = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: path for part, path in paths.items() if path is not None}


class PlaylistsSplit(Section, tag_field="kind", tag="playlists", frozen=True, kw_only=True):
    """Whole playlists are held out and continued: queries that the model has not seen, see docs/playlists.md."""

    test: Fraction = 0.1
    """Share of the playlists that is test."""
    validation: Fraction = 0.1
    """Share of the remaining playlists that is validation."""
    seed: int = 42
    """Of the division. What scenarios hide is drawn alike whatever the recipe."""

    @property
    def asked(self) -> Asked:
        """Return which rows of validation and test are asked for."""
        return "continued"


TablesSplit = Union[Split, GivenSplit]
AnySplit = Union[TablesSplit, PlaylistsSplit]


class MovieLens(Section, tag_field="source", tag="movielens", frozen=True, kw_only=True):
    """A MovieLens data set, https://grouplens.org/datasets/movielens/."""

    variant: Literal["100k", "1m", "20m", "25m", "32m"] = "100k"
    merge_items_on: str | tuple[str, ...] | None = None
    """An item column, such as `title`, or several, such as `["title", "year"]`, which leaves remakes apart: items that
    agree in all of them are one item (they keep the first id). MovieLens-100K
    lists 22 titles under two ids, and published figures are often counted by title; 17 of them are the same film
    twice, 5 are remakes."""
    split: Split = RandomSplit()


class Playlists(Section, tag_field="source", tag="playlists", frozen=True, kw_only=True):
    """The Million Playlist Dataset's slices, or others of their format (Chen, Lamere, Schedl and Zamani 2018)."""

    path: str
    """Directory of `mpd.slice.*.json`, local or any address that fsspec knows, such as `s3://bucket/mpd`."""
    split: PlaylistsSplit = PlaylistsSplit()


class Synthetic(Section, tag_field="source", tag="synthetic", frozen=True, kw_only=True):
    """Interactions made from a seed, of any size, to try out scale: users and items of power-law popularity, in
    clusters that a model can find. They are written part by part and never in memory as a whole."""

    interactions: PositiveInt = 1_000_000
    users: PositiveInt = 50_000
    items: PositiveInt = 5_000
    clusters: PositiveInt = 20
    """Every user and every item belongs to one; not more than there are items."""
    affinity: Fraction = 0.7
    """Share of the interactions that are with items of the user's own cluster; the others' clusters are chance."""
    skew: Annotated[float, Meta(ge=0.0, le=3.0)] = 0.7
    """Rank r of the users, and of a cluster's items, occurs in proportion to r ** -skew; 0 is no difference."""
    events: dict[str, Annotated[float, Meta(gt=0.0)]] = field(default_factory=dict)
    """Kinds of events and their shares, such as `{ view = 0.9, click = 0.07, purchase = 0.03 }`: a column `event`. All
    but the first are with items of the user's own cluster; those of the last also suit the age: below 52 the cheaper
    half of the items, else the dearer. None: no such column."""
    seed: int = 42
    split: Split = RandomSplit()

    def __post_init__(self) -> None:
        if self.clusters > self.items:
            raise ValueError(f"clusters = {self.clusters} is more than items = {self.items}; lower it")


class OwnTables(Section, tag_field="source", tag="tables", frozen=True, kw_only=True):
    """The user's own tables, see docs/tables.md. `retrieval init` writes such a section for given files."""

    interactions: TableFile = TableFile()
    """Needs `user_id` and `item_id`. Without `rating` every row has 1.0. Without `timestamp` nothing that needs the
    time can be used: temporal and leave-last-out splits, sequences, features of `timestamp`."""
    users: TableFile | None = None
    """Needs `user_id`. Users of the interactions that it does not have are added, their attributes null. Without it the
    users are those of the interactions."""
    items: TableFile | None = None
    """Needs `item_id`, and is completed like the users. Without `title` an item is called by the interactions' `title`
    if they have one, else by its id."""
    at_least: dict[str, float] = field(default_factory=dict)
    """Least values of columns of the interactions, by our names, such as `{ rating = 4, quantity = 1 }`: other rows,
    and those without a value, are left out and counted."""
    min_user_rows: Annotated[int, Meta(ge=1)] = 1
    """Users of fewer rows are left out; again and again with `min_item_rows` until both hold (the k-core)."""
    min_item_rows: Annotated[int, Meta(ge=1)] = 1
    """Items of fewer rows are left out, from the items' table, too."""
    timestamp_unit: TimestampUnit = "seconds"
    """What `timestamp` holds: days, seconds, milliseconds, microseconds or nanoseconds since 1970, or since any other
    beginning (only features of the calendar know the difference); `excel`, days as spreadsheets count them, of which
    45413.5 is noon of 1 May 2024; `order`, places such as 0, 1, 2 in the order of time, taken as seconds: of a column
    or, where there is none, of the rows in the files; `iso`, such as 2024-05-01T12:30:00Z (UTC where no offset is
    given); `datetime`, a parquet column of that type; or a strptime pattern, such as `%d/%m/%Y %H:%M` (UTC). It is kept
    in whole seconds, cut off."""
    bad_rows: BadRows = "refuse"
    """Rows without an id, of a wrong type, out of range, or with an id that is there twice (users, items): `refuse`
    stops at the first, `drop` leaves them out and reports them in `tables/source.json`."""
    split: TablesSplit = RandomSplit()

    def __post_init__(self) -> None:
        """Refuse tables without a path, and interactions with two."""
        split_files = isinstance(self.split, GivenSplit) and bool(self.split.files)
        if split_files and self.interactions.path:
            raise ValueError("`interactions.path` and the files of `split` are two places for the rows; leave one out")
        for name, table in self.tables.items():
            if not table.path and not (split_files and name == "interactions"):
                raise ValueError(f'`{name}` needs a `path`, such as path = "{name}.csv"')

    @property
    def tables(self) -> dict[str, TableFile]:
        """Return the tables that there are."""
        tables = {"users": self.users, "items": self.items, "interactions": self.interactions}
        return {name: table for name, table in tables.items() if table}


Data = Union[MovieLens, OwnTables, Playlists, Synthetic]


def located(data: Data, directory: Path) -> Data:
    """Return the section with its relative paths made absolute: they are relative to `directory`, the recipe's."""
    if isinstance(data, OwnTables):
        tables = {
            name: replace(table, path=_at(table.path, directory)) for name, table in data.tables.items() if table.path
        }
        split = data.split
        if isinstance(split, GivenSplit):
            split = replace(split, **{part: _at(path, directory) for part, path in split.files.items()})
        return replace(data, split=split, **tables)
    return replace(data, path=_at(data.path, directory)) if isinstance(data, Playlists) else data


def located_side(side: FeatureSide, directory: Path) -> FeatureSide:
    """Return the features with the relative paths of their files made absolute in the same way."""

    def located(feature: Feature) -> Feature:
        return feature.located(lambda path: _at(path, directory))

    features = side.features.items()
    return FeatureSide(
        features={name: [*map(located, of)] if isinstance(of, list) else located(of) for name, of in features}
    )


def embedding_files(*sides: FeatureSide) -> list[str]:
    """Return the files that features are made from besides the tables."""
    return [path for side in sides for _, feature in side.each() for path in feature.files()]


def _at(path: str, directory: Path) -> str:
    """Put a path into a directory, unless it is an address or begins with `/` or `~`."""
    return path if "://" in path else str((directory / Path(path).expanduser()).resolve())
