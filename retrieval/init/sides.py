"""Which of several files is which table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from retrieval.init.columns.profile import Given, Profile, Sampled, sample
from retrieval.init.columns.words import name_score
from workflows.columns import Columns
from workflows.errors import RecipeError

FEW_ROWS = 100
SAY = "`retrieval init --interactions FILE --users FILE --items FILE`, then `retrieval run RECIPE`"


def assigned(files: Sequence[str], given: Mapping[str, Given]) -> dict[str, str]:
    """Return interactions, users and items of up to three files: the interactions name both a user and an item.

    Where columns do not say what a file holds, such as without a header, its name may: `users.dat`, `movies.dat`. Raise
    RecipeError, with the options that say it, where it cannot be told, and DataError where a file cannot be read.
    """
    if len(files) == 1:
        return {"interactions": files[0]}
    few = given["interactions"]._replace(rows=FEW_ROWS)
    named = {path: _naming(sample(path, "interactions", Path.cwd(), few)) for path in dict.fromkeys(files)}
    scores = {
        path: (name_score(user.name, Columns.User), name_score(item.name, Columns.Item))
        for path, (user, item) in named.items()
    }
    # Of equals one whose name says nothing, and the first that was given.
    ordered = sorted(scores, key=lambda path: (-min(scores[path]), max(_by_name(path))))
    tables = {"interactions": ordered[0]}
    if not min(scores[ordered[0]]) and all(map(max, zip(*scores.values(), strict=True))):
        lacking = (f"{path} names {'no user' if item else 'no item'}" for path, (_, item) in scores.items())
        raise RecipeError(
            f"no file names both a user and an item: {', '.join(lacking)}; join two, such as with DuckDB: COPY (FROM "
            f"'order_items.csv' JOIN 'orders.csv' USING (order_id)) TO 'joined.parquet'; or say which is which: {SAY}"
        )
    for path in ordered[1:]:
        if min(scores[path]) and not any(column.is_unique for column in named[path]):  # none has a row of its own
            raise RecipeError(
                f"{path}: names a user and an item in each row, as {ordered[0]} does, of which the interactions are "
                f"made; leave it out, or say what it is: {SAY}"
            )
        user, item = scores[path] if scores[path][0] != scores[path][1] else _by_name(path)
        table = "users" if user > item else "items"
        if user == item or table in tables:
            beside = ", ".join(tables.values())
            raise RecipeError(f"{path}: does not say whether it is users or items, beside {beside}; say it: {SAY}")
        tables[table] = path
    return tables


def _naming(table: Sampled) -> tuple[Profile, Profile]:
    """Return the columns whose names say best that they hold users, and items."""
    best = [
        max(table.columns, key=lambda column: name_score(column.name, role)) for role in (Columns.User, Columns.Item)
    ]
    return best[0], best[1]


def _by_name(path: str) -> tuple[int, int]:
    name = PurePosixPath(path).name
    return name_score(name, Columns.User), name_score(name, Columns.Item)
