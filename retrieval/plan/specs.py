"""What a recipe's features will look like to the towers, before they are made (`workflows.features.specs.spec`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from workflows.config import Bucketized, Cross, Embedding, FeatureSide, Text, Time
from workflows.features.kinds import is_hashed, is_keyed, is_number, is_vector
from workflows.features.plan import FIRST_ITEM, FeatureSpec, Planned, plan
from workflows.operators.text import tokens
from workflows.operators.times import CARDINALITY


class Known(Protocol):
    """What is known of raw columns."""

    def distinct(self, column: str, made: Callable[[Any], Any] | None = None, most: int | None = None) -> int:
        """Return how many distinct values a column has, or things that `made` makes of it; at most `most`."""

    def width(self, column: str) -> int:
        """Return how many numbers a vector of a column has."""


def foretold_specs(side: FeatureSide, section: str, known: Known) -> list[FeatureSpec]:
    """Return the spec of each feature but the history; raise RecipeError as `plan`, DataError for a file of vectors."""
    sized = [(entry, _size(entry, known)) for entry in plan(side, section)]
    shared: dict[str, int] = {}
    for entry, size in sized:
        name = _vocabulary(entry)
        shared[name] = max(shared.get(name, 0), size)
    return [_spec(entry, shared[_vocabulary(entry)] if _vocabulary(entry) else size, known) for entry, size in sized]


def _vocabulary(entry: Planned) -> str:
    return getattr(entry.feature, "vocabulary", None) or ""


def _spec(entry: Planned, size: int, known: Known) -> FeatureSpec:
    feature: Any = entry.feature
    kind, keyed = _kind(feature), is_keyed(feature)
    return FeatureSpec(
        name=entry.output,
        source=entry.column,
        kind=kind,
        dtype="float32" if kind in ("continuous", "vector") else "int64",
        cardinality=size,
        max_length=_width(entry, known),
        table=_vocabulary(entry),
        pretrained=_pretrained(feature).vectors.shape[1] if keyed else 0,
        trainable=not keyed or feature.trainable,
    )


def _kind(feature: Any) -> Any:
    if is_number(feature):
        return "continuous"
    if is_vector(feature):
        return "vector"
    if not hasattr(feature, "max_length"):
        return "categorical"
    return "weighted-list" if getattr(feature, "weights", None) else "list"


def _width(entry: Planned, known: Known) -> int:
    feature: Any = entry.feature
    if not is_vector(feature):
        return getattr(feature, "max_length", 0)
    if isinstance(feature, Embedding):
        return known.width(entry.column)
    return 2 if isinstance(feature, Time) else len(feature.statistics)


def _pretrained(feature: Any) -> Any:
    from workflows.features.pretrained import read_pretrained

    return read_pretrained(feature)


def _size(entry: Planned, known: Known) -> int:
    """Return one more than the largest code, 0 for numbers and vectors (`workflows.fitting.learned.cardinality`)."""
    if is_number(entry.feature) or is_vector(entry.feature):
        return 0
    return FIRST_ITEM + _codes(entry.feature, entry.columns, known)


def _codes(feature: Any, columns: Sequence[str], known: Known) -> int:
    if isinstance(feature, Time):
        return CARDINALITY[feature.part]
    if isinstance(feature, Bucketized):
        return feature.buckets if feature.edges is None else len(feature.edges) + 1
    if isinstance(feature, Text):
        return known.distinct(columns[0], lambda text: tokens(text, feature.ngrams), feature.max_tokens)
    if is_keyed(feature):
        return len(_pretrained(feature).ids)
    buckets = int(feature.hash_buckets or 0)
    if is_hashed(feature):
        return buckets
    if isinstance(feature, Cross):
        return buckets + _combinations(feature, known)
    return buckets + known.distinct(columns[0], None, feature.max_size)


def _combinations(feature: Cross, known: Known) -> int:
    """Return how many combinations there may be; those that occur are fewer."""
    found = 1
    for column in feature.of:
        found *= len(feature.edges[column]) + 1 if column in feature.edges else known.distinct(column)
    return min(found, feature.max_size or found)
