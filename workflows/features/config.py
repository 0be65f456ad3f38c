"""The kinds of feature that a recipe's `[query.features]` and `[item.features]` may have."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from msgspec import Meta, field

from workflows.section import PositiveInt, Section

Count = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0.0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
Statistic = Literal["count", "mean", "recency"]
TimePart = Literal["hour", "weekday", "month"]
Unit = Literal["seconds", "minutes", "hours", "days", "years"]


class _Feature(Section, frozen=True, kw_only=True):
    name: Name | None = None
    """What the feature is called; else as its column, or `<column>_<kind>` where a column has several."""


class _Coded(_Feature, frozen=True, kw_only=True):
    min_frequency: Count = 0
    """Values seen less often than this in the training rows count as unseen."""
    max_size: PositiveInt | None = None
    """Keep only this many values, the most frequent ones."""
    hash_buckets: PositiveInt | None = None
    """What is not in the vocabulary goes to one of so many codes, by a hash of its value, instead of counting as
    unseen. Alone it makes no vocabulary: every value is hashed (an open id space). With `max_size` or `min_frequency`
    the values that these keep have codes of their own. Integers are hashed by splitmix64 (Steele et al. 2014), strings
    by BLAKE2b of their UTF-8 bytes (RFC 7693)."""


class Categorical(_Coded, tag_field="kind", tag="categorical", frozen=True, kw_only=True):
    """Distinct values to codes: 1 null, 2 unseen, known values from 3 by falling frequency (NVTabular `Categorify`)."""

    vocabulary: Name | None = None
    """Features of one side that name the same vocabulary share it: it is made of all their values, a value has the same
    code in each, and they share one embedding table."""


class Cross(_Coded, tag_field="kind", tag="cross", frozen=True, kw_only=True):
    """The combination of the values of several columns, as one categorical value: `age_and_gender = { kind = "cross",
    of = ["age", "gender"] }`. The key is the feature's name. A null in any of the columns makes it null.

    Values are combined through 64-bit hashes of them, and a combination has its own code (NVTabular `Categorify`)
    unless `hash_buckets` says otherwise.
    """

    of: Annotated[tuple[str, ...], Meta(min_length=2, max_length=8)]
    """The raw columns: integers or strings, or numbers that have `edges`."""
    edges: dict[str, Annotated[tuple[float, ...], Meta(min_length=1)]] = field(default_factory=dict)
    """Columns that are bucketized first, each with its inner edges: `{ age = [18, 25, 35, 50] }`."""


class _Number(_Feature, frozen=True, kw_only=True):
    normalise: Union[bool, Literal["min-max"]] = True
    """`true`: subtract the training mean and divide by the training standard deviation (NVTabular `Normalize`).
    `"min-max"`: subtract the training minimum and divide by the training range (NVTabular `NormalizeMinMax`); a value
    outside of that range is outside of 0 to 1."""
    fill: float = 0.0
    """What a null or a NaN becomes, before all that follows."""
    clip_min: float | None = None
    """Smaller numbers become this (NVTabular `Clip`)."""
    clip_max: float | None = None
    """Larger numbers become this."""
    log: bool = False
    """Take log(1 + x) of the clipped number, as NVTabular's `LogOp` does, and -log(1 - x) where it is negative."""


class Continuous(_Number, tag_field="kind", tag="continuous", frozen=True, kw_only=True):
    """A number, as float32: nulls filled, clipped, logarithm, normalised, in this order and in float64."""


class Bucketized(_Feature, tag_field="kind", tag="bucketized", frozen=True, kw_only=True):
    """A number to the index of its bucket, a categorical code (NVTabular `Bucketize`, equal to
    `numpy.searchsorted(edges, x, side="right")`)."""

    buckets: Annotated[int, Meta(ge=2)] = 100
    """How many buckets, the two open-ended ones included."""
    method: Literal["linear", "quantile"] = "linear"
    """`linear`: edges are evenly spaced between the training minimum and maximum. `quantile`: buckets hold equally many
    training rows, as far as equal values allow; where the interactions come in several parts, to within 0.02 % of all
    rows."""
    edges: tuple[float, ...] | None = None
    """The inner edges themselves, rising; `buckets` and `method` are then not looked at."""


class Time(_Feature, tag_field="kind", tag="time", frozen=True, kw_only=True):
    """A part of a time in seconds since 1970, UTC, as a categorical code. Numbers of 10^11 and more (milliseconds) are
    null."""

    part: TimePart
    """`hour` of the day, 0 to 23; `weekday`, Monday first; `month` of the year."""
    cyclic: bool = False
    """Sine and cosine of the position in the day, the week or the year instead, float32 `[n, 2]`, so that 23:59 is near
    0:00; minutes count, days of a month do not. A null is two zeros."""
    utc_offset_hours: Annotated[float, Meta(ge=-14.0, le=14.0)] = 0.0
    """Hours to add before: 5.5 is India's time."""


class Age(_Number, tag_field="kind", tag="age", frozen=True, kw_only=True):
    """The time that has passed since what a column says, until the query or another column; then like `continuous`.

    Both are seconds since 1970. Where either is null the age is `fill`.
    """

    until: str = "timestamp"
    """The raw column of the same side that it is counted to. `timestamp` is the query's time."""
    unit: Unit = "days"
    """A year has 365.25 days."""


class MultiHot(_Coded, tag_field="kind", tag="multi-hot", frozen=True, kw_only=True):
    """A list of values to a list of codes, as `categorical` does for one value; the tower takes the mean of their
    embeddings."""

    max_length: PositiveInt = 16
    """Longer lists are cut."""
    keep: Literal["first", "last"] = "first"
    """Which entries of a longer list stay."""
    padding: Literal["right", "left"] = "right"
    """The side on which shorter lists are filled up with zeros."""
    weights: str | None = None
    """A raw column of lists of numbers, as long as these: the mean is weighted by them. An entry whose value or weight
    is null is left out. Without a positive sum the weighted mean is zero."""
    vocabulary: Name | None = None
    """As of `categorical`."""


class Text(_Feature, tag_field="kind", tag="text", frozen=True, kw_only=True):
    """Lower-cased words (maximal runs of Unicode letters and digits) and their n-grams, as a multi-hot list."""

    ngrams: Annotated[int, Meta(ge=1, le=3)] = 1
    """Longest n-gram; 2 means words and pairs of neighbouring words."""
    max_tokens: PositiveInt = 10_000
    """Size of the vocabulary, the most frequent tokens."""
    max_length: PositiveInt = 32
    """Longer lists of tokens are cut to their first entries."""


class Embedding(_Feature, tag_field="kind", tag="embedding", frozen=True, kw_only=True):
    """Pre-trained vectors, handed to the tower unchanged: those that the column holds, or those that a file has for the
    ids in the column."""

    file: str | None = None
    """Vectors keyed by id, a path or an fsspec address: a `.npy` of numbers `[n, width]`, whose ids `ids` names, or a
    Parquet file with both. Without a file the column itself holds lists of numbers, all of one length."""
    ids: str | None = None
    """The `.npy` of the ids, int64 or strings `[n]`, in the order of the vectors. Not for Parquet."""
    id_column: str = "id"
    """Of the Parquet file."""
    vector_column: str = "vector"
    """Of the Parquet file."""
    trainable: bool = False
    """Training starts from the file's vectors and changes them; the vectors of nulls and of ids that the file lacks
    start from zeros. Frozen, these stay zeros. The vectors of a column are inputs of the tower and cannot be trained.
    """


class Aggregate(_Feature, tag_field="kind", tag="aggregate", frozen=True, kw_only=True):
    """What the training interactions say about a user or an item, float32 `[n, how many]`: a feature of `user_id` or
    `item_id`.

    Fitted on the training part of the split alone: valid and test rows add nothing to it. Training rows themselves see
    figures that they, and rows later than they, are part of; what is served are the same figures.
    """

    statistics: Annotated[tuple[Statistic, ...], Meta(min_length=1)] = ("count", "mean", "recency")
    """`count` of the interactions, as log(1 + count); `mean` of the column `of`; `recency`: log(1 + the days between
    the last of them and the last of all). Each is then normalised over the ids that have it. An id without interactions
    has a count of 0, the mean over the ids, and the recency of the id that was away for longest."""
    of: str = "rating"
    """The numeric column of the interactions that `mean` is about. Rows where it is null count for nothing in the mean;
    an id that has no others gets the mean over the ids."""


class Sequence(Section, tag_field="kind", tag="sequence", frozen=True, kw_only=True):
    """What the query's user did up to the query's time: `history = { kind = "sequence" }` under [query.features].

    `history` is no column of a table: it is made of the interactions, newest first, never anything later than the
    query. The query's time, `timestamp`, becomes an input of the query.
    """

    last: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """The newest interactions, at most this many."""
    padding: Literal["right", "left"] = "right"
    """`left`: the mirror image, the newest interaction in the last place and zeros before the oldest."""


ColumnFeature = Union[Categorical, Cross, Continuous, Bucketized, Time, Age, MultiHot, Text, Embedding, Aggregate]
Feature = Union[ColumnFeature, Sequence]
Features = dict[str, Union[Feature, list[Feature]]]


class FeatureSide(Section, frozen=True, kw_only=True):
    """One side's features, keyed by the raw column they are made of."""

    features: Features
