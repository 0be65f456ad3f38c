"""What runs, columns and features may be called, told before anything is read or trained."""

from __future__ import annotations

import re
from pathlib import Path

from ensemble.serving.names import wrong_column, wrong_feature
from workflows.config import Data, FeatureSide, OwnTables
from workflows.errors import RecipeError
from workflows.features.plan import Planned, named


def run_name(text: str) -> str:
    """Return a text as the name of a run."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "tables"


def check_names(data: Data, query: FeatureSide, item: FeatureSide, path: Path) -> None:
    """Raise RecipeError for names that the served models have for themselves, or that no input of theirs can have.

    The query's raw columns are inputs of the served model; the items' are not, and only their features are checked.
    """
    for entry in named(query):
        for column in entry.columns:
            reason = wrong_column(column)
            if reason:
                raise RecipeError(f"{path}: [query.features] {column}: {reason}; {_renamed(data, column)}")
    for side, section in ((query, "query.features"), (item, "item.features")):
        for entry in named(side):
            _check_feature(entry, section, path)


def _check_feature(entry: Planned, section: str, path: Path) -> None:
    for name in entry.arrays:
        reason = wrong_feature(name, section == "query.features")
        if reason:
            raise RecipeError(
                f"{path}: [{section}] {entry.column}: a feature cannot be called {name!r}: {reason}; give it another: "
                'name = "..."'
            )


def _renamed(data: Data, column: str) -> str:
    """Return the remedy; our own sources have no columns of such names."""
    if not isinstance(data, OwnTables):
        return "leave it out: no column of this source has that name"
    table = "users" if data.users else "interactions"
    return f'rename it: data.{table}.columns = {{ my_column = "{column}" }}'
