"""What benchmarks/quality/family.py measures: studies, each a recipe and what its choices change in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from workflows.tables.store import Tables

PLAIN = "plain"
EARLIER = 0.7
"""The share of the rows, by time, that the run knows from which a warm start goes on."""
STARS = ("one to three", "four", "five")
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SOURCES = {
    "tower": "Covington et al. 2016",
    "cross": "DCN-v2, Wang et al. 2021",
    "SENet": "Hu et al. 2018; FiBiNET, Huang et al. 2019",
    "DAT": "Yu et al. 2021",
    "weight learned": "Kendall et al. 2018",
    "multi-task": "Caruana 1997",
    "IntTower": "Li et al. 2022",
    "COLD": "Wang et al. 2020; FSCD, Ma et al. 2021",
}
"""Where choices come from, by what their names hold."""
Changes = Mapping[str, Any]


class Study(NamedTuple):
    """Choices that are measured on the same rows of one recipe."""

    recipe: str
    choices: Mapping[str, Changes]
    """What each changes in the recipe, PLAIN first; None takes a value away."""
    all_change: Changes = MappingProxyType({})
    """What PLAIN and all others change."""
    asked: str = ""
    """Which of the recipe's test rows the figures are of."""
    tables: Callable[[Tables], Tables] | None = None
    """What is done to the tables before features are made of them."""
    timed: bool = False
    """Whether requests are timed."""


def ratings() -> dict[str, Changes]:
    """Return choices over the share of the loss that is the rating's; 1 is chosen by the ratings' own validation."""

    def tasks(**of_train: Any) -> Changes:
        return {"train": of_train}

    weighted = {f"{weight:g}": tasks(tasks={"rating": {"weight": weight}}) for weight in WEIGHTS[:-1]}
    weighted["1"] = tasks(monitor="rating.r2", tasks={"rating": {"weight": 1.0}})
    weighted["learned"] = tasks(tasks={"rating": {}, "weighting": "uncertainty"})
    return {PLAIN: {}, **{f"multi-task: rating, weight {weight}": changes for weight, changes in weighted.items()}}


def events(name: str, *kinds: str) -> dict[str, Changes]:
    """Return choices over the weight of all kinds of events but the last, which is asked for.

    0 is the last kind alone, and plain towers, to which all events are alike, are weight 1 without heads.
    """

    def tasks(weight: float | None, **more: Any) -> Changes:
        weights = {} if weight is None else {"weights": dict.fromkeys(kinds[:-1], weight)}
        of_events = {"kinds": kinds, "served": kinds[-1], **weights, **more}
        learned = {"weighting": "uncertainty"} if weight is None else {}
        return {"train": {"tasks": {"events": of_events, **learned}}}

    choices = {PLAIN: tasks(1.0, heads=False)}
    for weight in WEIGHTS:
        choices[f"multi-task: {name}, weight {weight:g}"] = tasks(weight)
        if weight not in (0.0, 1.0):
            choices[f"multi-task: {name}, weight {weight:g}, no heads"] = tasks(weight, heads=False)
    return {**choices, f"multi-task: {name}, weight learned": tasks(None)}


def warm_starts() -> dict[str, Changes]:
    """Return choices of `[train.warm_start]`: so many epochs on all interactions or on new ones, or a search.

    What they learn from includes the validation rows, as with a refit.
    """

    def start(**settings: Any) -> Changes:
        return {"train": {"refit": True, "warm_start": settings}}

    choices = {}
    for rows in ("all", "new"):
        for epochs in (1, 2, 4):
            name = f"{epochs} epoch{'s' if epochs > 1 else ''}, {rows}"
            choices[name] = start(epochs=epochs, search=False, interactions=rows)
    choices["0 epochs"] = start(epochs=0, search=False)
    choices["0 epochs, attributes"] = start(epochs=0, search=False, new_rows="attributes")
    choices["2 epochs, new, attributes"] = start(epochs=2, search=False, interactions="new", new_rows="attributes")
    choices["search, all"] = start(epochs=4)
    return {PLAIN: {}, **{f"warm start: {name}": changes for name, changes in choices.items()}}


def first_rows(tables: Tables) -> Tables:
    """Return the first interactions by time, and the users and items that they are of."""
    order = np.argsort(tables.interactions["timestamp"].to_numpy(), kind="stable")
    rows = tables.interactions.iloc[np.sort(order[: round(EARLIER * len(order))])].reset_index(drop=True)
    users = tables.users[tables.users["user_id"].isin(rows["user_id"])].reset_index(drop=True)
    items = tables.items[tables.items["item_id"].isin(rows["item_id"])].reset_index(drop=True)
    return type(tables)(rows, users, items)


def as_events(tables: Tables) -> Tables:
    """Return the tables with how many stars an interaction got as its event."""
    stars = np.array(STARS, dtype=object)[np.digitize(tables.interactions["rating"].to_numpy(), [3.5, 4.5])]
    return type(tables)(tables.interactions.assign(event=stars), tables.users, tables.items)


STUDIES = {
    "towers": Study(
        "family",
        {
            PLAIN: {},
            "tower [64]": {"model": {"tower": [64]}},
            "tower [256, 128, 64]": {"model": {"tower": [256, 128, 64]}},
            "cross, stacked": {"model": {"cross": {"layers": 1}}},
            "cross, stacked, rank 16": {"model": {"cross": {"layers": 1, "rank": 16}}},
            "cross, parallel": {"model": {"cross": {"layers": 1, "structure": "parallel"}}},
            "cross, parallel, rank 16": {"model": {"cross": {"layers": 1, "structure": "parallel", "rank": 16}}},
            "SENet gates": {"model": {"gates": {}}},
            "SENet gates, relu": {"model": {"gates": {"activation": "relu"}}},
            "DAT": {"model": {"augmentation": {}}},
            "DAT, categories aligned": {"model": {"augmentation": {"category": "genres"}}},
        },
        timed=True,
    ),
    "rating": Study("family", ratings()),
    "stars": Study("family", events("stars", *STARS), asked="; rows of five stars alone", tables=as_events),
    "shop": Study(
        "events",
        events("shop", "view", "click", "purchase"),
        all_change={"train": {"tasks": None}},
        asked="; purchases alone",
    ),
    "warm-start": Study(  # for the sake of time without teachers and titles, with short histories and large batches
        "movielens-100k-temporal",
        warm_starts(),
        all_change={
            "train": {"distillation": None, "batch_size": 2048},
            "query": {"features": {"history": {"last": 20}}},
            "item": {"features": {"title": None}},
        },
    ),
    "ranking": Study(
        "movielens-100k",
        {
            PLAIN: {},
            "ranker, IntTower": {"ranking": {"kind": "inttower"}},
            "ranker, COLD": {"ranking": {"kind": "cold"}},
            "ranker, COLD, FSCD": {"ranking": {"kind": "cold", "selection": {}}},
        },
        timed=True,
    ),
}
