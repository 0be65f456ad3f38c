"""The recipe's `[data]`, `[query.features]` and `[item.features]`: validated, frozen, unknown keys refused."""

from __future__ import annotations

from typing import Literal, Union

from workflows.feature_config import Age as Age
from workflows.feature_config import Aggregate as Aggregate
from workflows.feature_config import Bucketized as Bucketized
from workflows.feature_config import Categorical as Categorical
from workflows.feature_config import ColumnFeature as ColumnFeature
from workflows.feature_config import Continuous as Continuous
from workflows.feature_config import Cross as Cross
from workflows.feature_config import Embedding as Embedding
from workflows.feature_config import Feature as Feature
from workflows.feature_config import FeatureSide as FeatureSide
from workflows.feature_config import MultiHot as MultiHot
from workflows.feature_config import Sequence as Sequence
from workflows.feature_config import Text as Text
from workflows.feature_config import Time as Time
from workflows.sections import Fraction
from workflows.sections import PositiveInt as PositiveInt
from workflows.sections import Section as Section

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
