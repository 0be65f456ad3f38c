"""What the features are made of: the recipe's plan."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from workflows.config import FeatureSide, Sequence
from workflows.errors import RecipeError
from workflows.features.kinds.base import Planned as Planned

HISTORY = "history"
"""The pseudo-column of the user's past interactions, and the feature made of it."""
HISTORY_AGE = "history_age"
"""The seconds that have passed since each of them: comes with `history`."""
FIRST_ITEM = 3
"""An item's code in a history is its `item_index` + 3; 2 is an item that the catalogue does not hold, 0 padding."""


class FeatureSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one feature looks like to a tower."""

    name: str
    source: str
    """The raw column."""
    kind: Literal["categorical", "continuous", "list", "weighted-list", "vector", "sequence"]
    """`vector`: float32 `[n, max_length]`, as it is. Two inputs of the tower each: a `sequence`, `name`, the codes, and
    `history_age`; a `weighted-list`, `name` and `<name>_weight`; the second is float32 of the first one's shape."""
    dtype: Literal["int64", "float32"]
    cardinality: int
    """Codes are below this; 0 for continuous and vectors."""
    max_length: int
    """Width of a list, a sequence or a vector; lists and sequences are padded with 0. 0 for a scalar."""
    table: str = ""
    """The embedding table that it has in common with the other features of this name; "": its own."""
    pretrained: int = 0
    """Width of the table's vectors where they are pre-trained, in `features/pretrained/<name>.npy`; 0: they are not."""
    trainable: bool = True
    """Whether training changes the table."""
    pad_left: bool = False
    """Whether a sequence's zeros come first, and its newest entry last."""


def plan(side: FeatureSide, section: str) -> list[Planned]:
    """Return one entry per feature of a raw column, named after its column, or `<column>_<kind>` where it has several.

    A feature's own `name` goes before that.

    The history is none of them: see `history_of`.

    Raises
    ------
    RecipeError
        There is no feature, two features have one name, a feature's options exclude each other, or `history` is not
        what it must be: one feature of kind `sequence`, beside others.
    """
    planned = named(side)
    _check_history(side, planned, section)
    names = [name for entry in planned for name in entry.arrays]
    if not names:
        raise RecipeError(f"[{section}] is empty; name at least one raw column")
    for entry in planned:
        _check_options(entry, names, section)
    return planned


def named(side: FeatureSide) -> list[Planned]:
    """Return the features of raw columns by their names, as `plan` does, whether or not there is something wrong."""
    planned = []
    for column in side.features:
        features = [feature for feature in side.of(column) if not isinstance(feature, Sequence)]
        for feature in features:
            name = column if len(features) == 1 else f"{column}_{feature.suffix}"
            planned.append(Planned(feature.name or name, column, feature))
    return planned


def history_of(side: FeatureSide) -> Sequence | None:
    """Return the history that a side asks for, if it does."""
    return next((feature for feature in side.of(HISTORY) if isinstance(feature, Sequence)), None)


def feature_spec(entry: Planned, cardinality: int, width: int) -> FeatureSpec:
    """Return what a tower needs to know of a feature of so many codes, 0 for numbers, and of this width."""
    feature, vectors = entry.feature, entry.feature.pretrained()
    return FeatureSpec(
        name=entry.output,
        source=entry.column,
        kind=feature.form,
        dtype="float32" if entry.is_numbers else "int64",
        cardinality=cardinality,
        max_length=width,
        table=feature.shared,
        pretrained=0 if vectors is None else vectors.vectors.shape[1],
        trainable=feature.trains_table,
    )


def _check_history(side: FeatureSide, planned: list[Planned], section: str) -> None:
    """Refuse a `history` that is no `sequence`, on the query's side, once, and a `sequence` of anything else."""
    for column in side.features:
        wrong = [feature for feature in side.of(column) if isinstance(feature, Sequence) != (column == HISTORY)]
        if wrong or (column == HISTORY and section != "query.features"):
            raise RecipeError(
                f"[{section}] {column}: {HISTORY!r} is the query's sequence and nothing else is; write "
                f'{HISTORY} = {{ kind = "sequence" }} under [query.features], and rename a raw column of that name'
            )
    if len(side.of(HISTORY)) > 1:
        raise RecipeError(f"[{section}] {HISTORY}: there can be one sequence; remove the others")
    if history_of(side) and not planned:
        raise RecipeError(f"[{section}] has nothing but {HISTORY}; add at least one raw column, such as user_id")
    if history_of(side) and any(entry.output == HISTORY_AGE for entry in planned):
        raise RecipeError(f"[{section}] {HISTORY_AGE}: {HISTORY} makes a feature of that name; rename the raw column")


def _check_options(entry: Planned, names: list[str], section: str) -> None:
    """Refuse a name that a tower's input cannot have or two arrays would have, and options that exclude each other."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", entry.output):
        raise RecipeError(
            f"[{section}] {entry.column}: a tower's input cannot be called {entry.output!r}; give the feature "
            'another name = "..."'
        )
    if names.count(entry.output) > 1:
        raise RecipeError(
            f"[{section}] {entry.column}: two features would be called {entry.output!r}; remove one, or give it "
            'another name = "..."'
        )
    for holds, why in entry.feature.rules():
        if holds:
            raise RecipeError(f"[{section}] {entry.column}: {why}")
