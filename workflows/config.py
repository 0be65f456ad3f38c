"""The recipe's `[data]`, `[query.features]` and `[item.features]`: validated, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from msgspec import Meta, Struct

Fraction = Annotated[float, Meta(gt=0.0, lt=1.0)]
PositiveInt = Annotated[int, Meta(ge=1)]
Device = Literal["auto", "gpu", "cpu"]
Asked = Literal["all", "known", "continued"]
"""Which rows of validation and test are asked for; `continued`: those of playlists that nothing was learned from."""


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every recipe section."""


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


class PlaylistsSplit(Section, tag_field="kind", tag="playlists", frozen=True, kw_only=True):
    """Whole playlists are held out and continued: queries that the model has not seen, see docs/playlists.md."""

    test: Fraction = 0.1
    """Share of the playlists that is test."""
    validation: Fraction = 0.1
    """Share of the remaining playlists that is validation."""
    seed: int = 42
    """Of the division, and of the tracks that the scenarios of the test hide."""

    @property
    def asked(self) -> Asked:
        """Return which rows of validation and test are asked for."""
        return "continued"


AnySplit = Union[Split, PlaylistsSplit]


class MovieLens(Section, tag_field="source", tag="movielens", frozen=True, kw_only=True):
    """A MovieLens data set, https://grouplens.org/datasets/movielens/."""

    variant: Literal["100k", "1m", "20m", "25m", "32m"] = "100k"
    merge_items_on: str | None = None
    """An item column, such as `title`: items that agree in it are one item (they keep the first id). MovieLens-100K
    lists 22 titles under two ids, and published figures are often counted by title; 17 of them are the same film
    twice, 5 are remakes."""
    split: Split = RandomSplit()


class Playlists(Section, tag_field="source", tag="playlists", frozen=True, kw_only=True):
    """The Million Playlist Dataset's slices, or others of their format (Chen, Lamere, Schedl and Zamani 2018)."""

    path: str
    """Directory of `mpd.slice.*.json`, local or any address that fsspec knows, such as `s3://bucket/mpd`."""
    split: PlaylistsSplit = PlaylistsSplit()


Data = Union[MovieLens, Playlists]


class Categorical(Section, tag_field="kind", tag="categorical", frozen=True, kw_only=True):
    """Distinct values to codes: 1 null, 2 unseen, known values from 3 by falling frequency (NVTabular `Categorify`)."""

    min_frequency: Annotated[int, Meta(ge=0)] = 0
    """Values seen less often than this in the training rows count as unseen."""
    max_size: PositiveInt | None = None
    """Keep only this many values, the most frequent ones."""


class Continuous(Section, tag_field="kind", tag="continuous", frozen=True, kw_only=True):
    """A number, as float32; nulls and NaN are replaced by `fill`, then (x - mean) / std if normalised."""

    normalise: bool = True
    """Subtract the training mean and divide by the training standard deviation (NVTabular `Normalize`)."""
    fill: float = 0.0
    """What a null or a NaN becomes before normalisation."""


class Bucketized(Section, tag_field="kind", tag="bucketized", frozen=True, kw_only=True):
    """A number to the index of its bucket, a categorical code. Edges are evenly spaced between the training
    minimum and maximum (NVTabular `Bucketize`, equal to `numpy.searchsorted(edges, x, side="right")`)."""

    buckets: Annotated[int, Meta(ge=2)] = 100
    """How many buckets, the two open-ended ones included."""


class MultiHot(Section, tag_field="kind", tag="multi-hot", frozen=True, kw_only=True):
    """A list of values to a list of codes, as `categorical` does for one value."""

    max_length: PositiveInt = 16
    """Longer lists are cut to their first entries."""
    max_size: PositiveInt | None = None


class Text(Section, tag_field="kind", tag="text", frozen=True, kw_only=True):
    """Lower-cased words (maximal runs of Unicode letters and digits) and their n-grams, as a multi-hot list."""

    ngrams: Annotated[int, Meta(ge=1, le=3)] = 1
    """Longest n-gram; 2 means words and pairs of neighbouring words."""
    max_tokens: PositiveInt = 10_000
    """Size of the vocabulary, the most frequent tokens."""
    max_length: PositiveInt = 32
    """Longer lists of tokens are cut to their first entries."""


class Sequence(Section, tag_field="kind", tag="sequence", frozen=True, kw_only=True):
    """What the query's user did up to the query's time: `history = { kind = "sequence" }` under [query.features].

    `history` is no column of a table: it is made of the interactions, newest first, never anything later than the
    query. The query's time, `timestamp`, becomes an input of the query.
    """

    last: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """The newest interactions, at most this many."""


ColumnFeature = Union[Categorical, Continuous, Bucketized, MultiHot, Text]
Feature = Union[ColumnFeature, Sequence]
Features = dict[str, Union[Feature, list[Feature]]]


class FeatureSide(Section, frozen=True, kw_only=True):
    """One side's features, keyed by the raw column they are made of."""

    features: Features
