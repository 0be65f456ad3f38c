"""The kinds of feature that a recipe's `[query.features]` and `[item.features]` may have, one file each.

How to add one: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from workflows.features.kinds.age import Age as Age
from workflows.features.kinds.aggregate import Aggregate as Aggregate
from workflows.features.kinds.bucketized import Bucketized as Bucketized
from workflows.features.kinds.categorical import Categorical as Categorical
from workflows.features.kinds.continuous import Continuous as Continuous
from workflows.features.kinds.cross import Cross as Cross
from workflows.features.kinds.embedding import Embedding as Embedding
from workflows.features.kinds.multi_hot import MultiHot as MultiHot
from workflows.features.kinds.sequence import Sequence as Sequence
from workflows.features.kinds.text import Text as Text
from workflows.features.kinds.time import Time as Time
from workflows.section import Section

ColumnFeature = Union[Categorical, Cross, Continuous, Bucketized, Time, Age, MultiHot, Text, Embedding, Aggregate]
Feature = Union[ColumnFeature, Sequence]
Features = dict[str, Union[Feature, list[Feature]]]


class FeatureSide(Section, frozen=True, kw_only=True):
    """One side's features, keyed by the raw column they are made of."""

    features: Features

    def of(self, column: str) -> list[Feature]:
        """Return the features of a raw column."""
        features = self.features.get(column, [])
        return features if isinstance(features, list) else [features]

    def each(self) -> Iterator[tuple[str, Feature]]:
        """Yield every feature with its raw column."""
        return ((column, feature) for column in self.features for feature in self.of(column))
