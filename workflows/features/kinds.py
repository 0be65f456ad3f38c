"""What each kind of feature reads, takes and is called."""

from __future__ import annotations

from typing import Any

import numpy as np

from workflows.config import Age, Aggregate, Bucketized, Categorical, Continuous, Cross, Embedding, MultiHot, Text, Time

NUMBERS = ("integers", "floats")
VALUES = ("integers", "strings", "floats (whole numbers)")
LISTS = ("lists of strings", "lists of integers")
VECTORS = ("lists of floats", "lists of integers")
SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0, "years": 31_557_600.0}


def columns_of(feature: Any, column: str) -> tuple[str, ...]:
    """Return the raw columns that a feature reads, those of lists before their weights."""
    if isinstance(feature, Cross):
        return tuple(dict.fromkeys(feature.of))
    if isinstance(feature, Age):
        return column, feature.until
    if isinstance(feature, MultiHot) and feature.weights:
        return column, feature.weights
    return (column,)


def outputs_of(feature: Any, name: str) -> tuple[str, ...]:
    """Return the names of the arrays that a feature consists of."""
    return (name, f"{name}_weight") if isinstance(feature, MultiHot) and feature.weights else (name,)


def accepts(feature: Any, column: str) -> tuple[str, ...]:
    """Return the types of column, in words, that a feature can read in this place."""
    if isinstance(feature, Cross):
        return NUMBERS if column in feature.edges else VALUES
    if isinstance(feature, MultiHot):
        return VECTORS if column == feature.weights else LISTS
    if isinstance(feature, Embedding):
        return VALUES if feature.file else VECTORS
    if isinstance(feature, Text):
        return ("strings",)
    return VALUES if isinstance(feature, (Categorical, Aggregate)) else NUMBERS


def wants_whole(feature: Any, column: str) -> bool:
    """Return whether the values of a column of numbers are told apart one by one."""
    return accepts(feature, column) == VALUES


def wants_floats(feature: Any, column: str) -> bool:
    """Return whether a column of lists is one of numbers to compute with."""
    return accepts(feature, column) == VECTORS


def suffix(feature: Any) -> str:
    """Return what tells a feature from the others of its column."""
    if isinstance(feature, Time):
        return f"{feature.part}_cyclic" if feature.cyclic else feature.part
    return str(feature.__struct_config__.tag).replace("-", "_")


def is_number(feature: Any) -> bool:
    """Return whether a feature is one float32."""
    return isinstance(feature, (Continuous, Age))


def is_vector(feature: Any) -> bool:
    """Return whether a feature is several float32."""
    if isinstance(feature, Time):
        return feature.cyclic
    return isinstance(feature, Aggregate) or (isinstance(feature, Embedding) and not feature.file)


def is_keyed(feature: Any) -> bool:
    """Return whether a feature's embedding table is pre-trained."""
    return isinstance(feature, Embedding) and bool(feature.file)


def is_hashed(feature: Any) -> bool:
    """Return whether every value is hashed: there is no vocabulary."""
    limited = getattr(feature, "max_size", None) or getattr(feature, "min_frequency", 0)
    return bool(getattr(feature, "hash_buckets", None) and not limited)


def wrong_options(feature: Any) -> str | None:
    """Return why a feature's options exclude each other, if they do."""
    return next((why for holds, why in _rules(feature) if holds), None)


def _rules(feature: Any) -> list[tuple[bool, str]]:
    if isinstance(feature, (Categorical, MultiHot, Cross)):
        return _coded(feature)
    if isinstance(feature, (Continuous, Age)):
        low, high = feature.clip_min, feature.clip_max
        return [(low is not None and high is not None and low >= high, "clip_min must be below clip_max")]
    if isinstance(feature, Bucketized):
        return [(feature.edges is not None and not _rising(feature.edges), "edges must rise strictly, and be there")]
    if isinstance(feature, Embedding):
        return _embedding(feature)
    return []


def _coded(feature: Any) -> list[tuple[bool, str]]:
    limited = feature.min_frequency or feature.max_size
    shared = None if isinstance(feature, Cross) else feature.vocabulary
    edges = feature.edges if isinstance(feature, Cross) else {}
    return [
        (
            bool(feature.min_frequency and feature.max_size),
            "min_frequency and max_size cannot be combined; set one of the two",
        ),
        (
            bool(shared and feature.hash_buckets and not limited),
            "a vocabulary is not needed where every value is hashed: the same values have the same codes; remove one",
        ),
        (bool(set(edges) - set(getattr(feature, "of", ()))), "edges are of columns that `of` does not name"),
        (any(not _rising(one) for one in edges.values()), "edges must rise strictly"),
    ]


def _embedding(feature: Embedding) -> list[tuple[bool, str]]:
    numpy_file = bool(feature.file and feature.file.endswith(".npy"))
    return [
        (feature.trainable and not feature.file, "the vectors of a column cannot be trained; put them into a file"),
        (numpy_file and not feature.ids, "a .npy of vectors needs `ids`, the .npy of their ids"),
        (bool(feature.ids and not numpy_file), "`ids` belongs to a .npy of vectors; a Parquet file has its id_column"),
    ]


def _rising(edges: tuple[float, ...]) -> bool:
    return len(edges) > 0 and bool(np.all(np.diff(edges) > 0)) and bool(np.isfinite(edges).all())
