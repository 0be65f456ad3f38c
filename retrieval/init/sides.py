"""Which of several files is which table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.init.columns.profile import Given, sample
from retrieval.init.columns.words import name_score
from workflows.columns import Columns
from workflows.errors import RecipeError

FEW_ROWS = 100


def assigned(files: Sequence[str], given: Mapping[str, Given]) -> dict[str, str]:
    """Return interactions, users and items of up to three files: the interactions name both a user and an item.

    Raises
    ------
    RecipeError
        It cannot be told; the message has the options that say it.
    DataError
        A file cannot be read.
    """
    if len(files) == 1:
        return {"interactions": files[0]}
    scores = {path: _scores(path, given["interactions"]) for path in dict.fromkeys(files)}
    ordered = sorted(scores, key=lambda path: -min(scores[path]))  # of equals the first that was named
    tables = {"interactions": ordered[0]}
    for path in ordered[1:]:
        user, item = scores[path]
        table = "users" if user > item else "items"
        if user == item or table in tables:
            raise _unclear(path, tables)
        tables[table] = path
    return tables


def _scores(path: str, given: Given) -> tuple[int, int]:
    """Return how well a column's name says that the file has users, and items."""
    sampled = sample(path, "interactions", Path.cwd(), given._replace(rows=FEW_ROWS))
    best = [max(name_score(column.name, role) for column in sampled.columns) for role in (Columns.User, Columns.Item)]
    return best[0], best[1]


def _unclear(path: str, tables: Mapping[str, str]) -> RecipeError:
    return RecipeError(
        f"{path}: does not say whether it is users or items, beside {', '.join(tables.values())}; say it: "
        "`retrieval init --interactions FILE --users FILE --items FILE`, then `retrieval run RECIPE`"
    )
