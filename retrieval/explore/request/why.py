"""Why a user is answered with an item: what it is near in their history, and what each part of the query adds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ensemble.client.tensors import Query, tensors
from ensemble.serving.files.arrays import null_column
from ensemble.serving.query.sequence import HISTORY, HISTORY_AGE, TIME
from ensemble.serving.query.transform import Column
from ensemble.serving.triton.tensors import USER, Request
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.items import Shown, cell

NEAREST = 8
_STRANGER = {"int64": 2**62, "string": "\x7f nobody"}
"""User ids that no table has."""


class Part(NamedTuple):
    """What the score loses without a part of the query."""

    name: str
    value: Any
    adds: float


class Why(NamedTuple):
    """Why an item has its score."""

    item: Shown
    score: float
    """Inner product of query and item vectors."""
    parts: list[Part]
    """Those that add the most first."""
    nearest: list[tuple[Shown, float]]
    """Of the history, with the inner products of both items' vectors."""


def why(explored: Explored, query: Query, item: int, past: np.ndarray) -> Why:
    """Explain the score of the item of a row for the only row of a query; `past`, int64 [n], is the user's history."""
    request = explored.retriever.reader.read([tensors(explored.signature, query)])
    names, values, features = _without_each(explored, request)
    vectors = explored.retriever.tower.encode({name: np.concatenate(rows) for name, rows in features.items()})
    scores = vectors @ explored.items.vectors[item]
    parts = [Part(*part) for part in zip(names, values, (scores[0] - scores[1:]).tolist(), strict=True)]
    parts.sort(key=lambda part: -abs(part.adds))
    return Why(explored.items.shown(item), float(scores[0]), parts, _nearest(explored, item, past))


def _without_each(explored: Explored, request: Request) -> tuple[list[str], list[Any], dict[str, list[np.ndarray]]]:
    """Return names and values of the parts of a query, and its features: whole, and without each of them."""
    features_of, users = explored.retriever.features.compute_all, explored.retriever.users
    rows = users.rows_of(request.columns[USER].values)
    columns = users.complete(request.columns, rows)
    if TIME in request.columns:
        columns[TIME] = request.columns[TIME]
    whole = features_of(columns, rows, request.clicks)
    changed, names, values = [whole], [], []
    for name, column in columns.items():
        if name == TIME:
            continue
        names.append(name)
        values.append(cell(column, 0))
        changed.append(features_of({**columns, name: _absent(explored, name)}, rows, request.clicks))
    if HISTORY in whole:
        names.append(HISTORY)
        values.append(f"{int(np.count_nonzero(whole[HISTORY]))} items")
        changed.append({**whole, **{name: np.zeros_like(whole[name]) for name in (HISTORY, HISTORY_AGE)}})
    return names, values, {name: [features[name] for features in changed] for name in whole}


def _absent(explored: Explored, name: str) -> Column:
    """Return a column without a value; of user ids, one that nobody has."""
    [stated] = [column for column in explored.retriever.transform.inputs if column["name"] == name]
    if name != USER:
        return null_column(1, stated["dtype"], bool(stated["list"]))
    return Column(np.array([_STRANGER[stated["dtype"]]], dtype=object if stated["dtype"] == "string" else np.int64))


def _nearest(explored: Explored, item: int, past: np.ndarray) -> list[tuple[Shown, float]]:
    rows = np.unique(past[past != item])
    products = explored.items.vectors[rows] @ explored.items.vectors[item]
    order = np.argsort(-products, kind="stable")[:NEAREST]
    return [(explored.items.shown(int(rows[place])), float(products[place])) for place in order.tolist()]
