"""How large a recipe's data is and what its features look like: from a run's features, its tables, or what is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow.parquet as pq

from retrieval.plan.specs import foretold_specs
from retrieval.recipes.recipe import Recipe
from workflows.columns import Columns
from workflows.config import GivenSplit, MovieLens, Synthetic
from workflows.errors import RecipeError
from workflows.features.plan import FIRST_ITEM, FeatureSpec, history_of

PARTS = ("train", "valid", "test")
ASSUMED_VALUES, ASSUMED_WIDTH = 1000, 64
"""Distinct values of a column that nothing is known of; numbers in a vector of a column of vectors."""


class Sizes(NamedTuple):
    """Rows of the three tables."""

    rows: int
    users: int
    items: int


MOVIELENS = {
    "100k": Sizes(100_000, 943, 1_682),
    "1m": Sizes(1_000_209, 6_040, 3_883),
    "20m": Sizes(20_000_263, 138_493, 27_278),
    "25m": Sizes(25_000_095, 162_541, 62_423),
    "32m": Sizes(32_000_204, 200_948, 87_585),
}
"""As their README files state."""
MOVIELENS_VALUES = {"gender": 2, "occupation": 21, "zip_code": 3_500, "age": 61, "genres": 20, "year": 110}


@dataclass(frozen=True)
class Shapes:
    """What memory and time depend on."""

    query: tuple[FeatureSpec, ...]
    item: tuple[FeatureSpec, ...]
    rows: Mapping[str, int]
    """Of train, valid and test."""
    users: int
    items: int
    origin: str
    """`features`, `tables` or `declared`."""
    item_lengths: Mapping[str, int] = field(default_factory=dict)
    """Longest list that an item has, where that is known to be less than the feature's `max_length`."""
    assumed: tuple[str, ...] = ()
    """What was taken for granted, in words."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Return both sides' specs."""
        return self.query + self.item


def shapes_of(recipe: Recipe, run: Path, sizes: Sizes | None = None) -> Shapes:
    """Return the shapes of a recipe whose run is, or would be, in `run`; `sizes` are what the user declares.

    Raises
    ------
    RecipeError
        Neither the run nor the source nor the user says how large the data is.
    """
    if sizes is None and (run / "features" / "features.json").is_file():
        return _from_features(run / "features")
    if sizes is None and (run / "tables" / "items.parquet").is_file():
        return _from_tables(recipe, run / "tables")
    counts = sizes or known_sizes(recipe)
    if counts is None:
        raise RecipeError(
            f"{recipe.name}: how much data there is cannot be told before it is there; run `retrieval fetch RECIPE` "
            "first, or give --rows, --users and --items"
        )
    return _planned(recipe, counts, _Declared(recipe, counts), "declared")


def known_sizes(recipe: Recipe) -> Sizes | None:
    """Return the sizes of a source that are known without fetching it."""
    data = recipe.data
    if isinstance(data, MovieLens):
        return MOVIELENS[data.variant]
    if isinstance(data, Synthetic):
        return Sizes(data.interactions, data.users, data.items)
    return None


def _from_features(directory: Path) -> Shapes:
    document = json.loads((directory / "features.json").read_bytes())
    query, item = (tuple(msgspec.convert(document[side], list[FeatureSpec])) for side in ("query", "item"))
    users = pq.read_metadata(directory / "users.parquet").num_rows
    lengths = {spec.name: _longest(directory / "items.parquet", spec.name) for spec in item if "list" in spec.kind}
    return Shapes(query, item, dict(document["rows"]), users, int(document["items"]), "features", lengths)


def _longest(path: Path, name: str) -> int:
    """Return the longest list of codes, padding left aside; at least 1."""
    column = pq.read_table(path, columns=[name]).column(name).combine_chunks()
    codes = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return max(1, int((codes > 0).sum(axis=1).max(initial=0)))


def _from_tables(recipe: Recipe, directory: Path) -> Shapes:
    from workflows.tables.store import open_tables

    stored = open_tables(directory)
    sizes = Sizes(sum(stored.rows), len(stored.users), len(stored.items))
    return _planned(recipe, sizes, _Counted(stored), "tables")


class _Declared:
    """Distinct values by what is known of a source."""

    def __init__(self, recipe: Recipe, sizes: Sizes) -> None:
        self._known: dict[str, int] = {Columns.User: sizes.users, Columns.Item: sizes.items, Columns.Title: sizes.items}
        if isinstance(recipe.data, MovieLens):
            self._known.update(MOVIELENS_VALUES)
        self.assumed: list[str] = []

    def distinct(self, column: str, derive: Callable[[Any], Any] | None = None, most: int | None = None) -> int:
        """Return how many distinct values a column has, or things that `derive` makes of it; at most `most`."""
        if derive is None and column in self._known:
            return min(self._known[column], most or self._known[column])
        assumed = most or ASSUMED_VALUES
        self.assumed.append(f"{column}: {assumed:,} values")
        return assumed

    def width(self, column: str) -> int:
        """Return how many numbers a vector of a column has."""
        self.assumed.append(f"{column}: vectors of {ASSUMED_WIDTH} numbers")
        return ASSUMED_WIDTH


class _Counted:
    """Distinct values as they are in the tables. The vocabulary is made of the training rows, and may be smaller."""

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self.assumed: list[str] = []

    def distinct(self, column: str, derive: Callable[[Any], Any] | None = None, most: int | None = None) -> int:
        """Return how many distinct values a column has, or things that `derive` makes of it; at most `most`."""
        values = self._column(column)
        if values is None:
            self.assumed.append(f"{column}: {most or ASSUMED_VALUES:,} values")
            return most or ASSUMED_VALUES
        listed = isinstance(next(iter(values.dropna()), None), (list, np.ndarray))
        distinct = values if listed else values.drop_duplicates()  # the rows may be many
        entries = {entry for value in distinct.tolist() for entry in (derive or _entries)(value)}
        return min(len(entries), most or len(entries))

    def width(self, column: str) -> int:
        """Return how many numbers a vector of a column has."""
        values = self._column(column)
        return next(
            (len(vector) for vector in ([] if values is None else values) if isinstance(vector, list)), ASSUMED_WIDTH
        )

    def _column(self, name: str) -> Any:
        for table in (self._stored.users, self._stored.items):
            if name in table:
                return table[name]
        try:
            return self._stored.read([name])[name]
        except (KeyError, ValueError, OSError):
            return None


def _entries(value: Any) -> Sequence[Any]:
    if value is None or value != value:
        return ()
    return value if isinstance(value, list) else (value,)


def _planned(recipe: Recipe, sizes: Sizes, known: _Declared | _Counted, origin: str) -> Shapes:
    query = foretold_specs(recipe.query, "query.features", known)
    item = foretold_specs(recipe.item, "item.features", known)
    history = history_of(recipe.query)
    if history is not None:
        query.append(
            FeatureSpec(
                name="history",
                source="history",
                kind="sequence",
                dtype="int64",
                cardinality=sizes.items + FIRST_ITEM,
                max_length=history.last,
            )
        )
    rows = _split_rows(recipe, sizes)
    return Shapes(
        tuple(query), tuple(item), rows, sizes.users, sizes.items, origin, {}, tuple(dict.fromkeys(known.assumed))
    )


def _split_rows(recipe: Recipe, sizes: Sizes) -> dict[str, int]:
    split: Any = recipe.data.split
    if isinstance(split, GivenSplit):  # how many rows each file has is not known before they are read
        test = round(sizes.rows * 0.2)
        valid = round((sizes.rows - test) * split.validation_share)
    elif hasattr(split, "test"):
        test = round(sizes.rows * split.test)
        valid = round((sizes.rows - test) * split.validation)
    else:  # each user's last interaction, and the one before
        test = valid = min(sizes.users, sizes.rows // 3)
    return {"train": sizes.rows - test - valid, "valid": valid, "test": test}
