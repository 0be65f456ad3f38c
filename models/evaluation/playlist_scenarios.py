"""Playlists to be continued, as the RecSys Challenge 2018 asks for them: ten scenarios of what is given of one.

Chen, Lamere, Schedl and Zamani, "RecSys Challenge 2018: Automatic Music Playlist Continuation", RecSys 2018,
doi:10.1145/3240323.3240342.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from models.metrics import Int64Array, SeenItems
from workflows.columns import Columns
from workflows.features.history import history_features, sequence_spec
from workflows.features.stage import FeatureSet, Part
from workflows.sources.playlists import ALBUM, ARTIST, TITLE, TRACK_DURATION, counts

PLAYLISTS = 1000
"""At most so many playlists stand for a scenario, as many as in the challenge."""
_SEED = 2018

Transform = Callable[[pd.DataFrame], dict[str, np.ndarray]]
"""Raw query columns, n rows, to the query tower's features but the history."""


class Scenario(NamedTuple):
    """What is given of a playlist, whose other tracks are hidden."""

    seeds: int
    title: bool
    drawn: bool = False
    """The seeds are drawn at random and stay in their order; else they are the first."""

    @property
    def name(self) -> str:
        """Say it in words."""
        kind = "random" if self.drawn else "first"
        parts = [*(["title"] if self.title else []), *([f"{kind} {self.seeds}"] if self.seeds else [])]
        return ", ".join(parts)


SCENARIOS = (
    Scenario(0, True),
    Scenario(1, True),
    Scenario(5, True),
    Scenario(5, False),
    Scenario(10, True),
    Scenario(10, False),
    Scenario(25, True),
    Scenario(25, True, drawn=True),
    Scenario(100, True),
    Scenario(100, True, drawn=True),
)
"""In the challenge's order."""


class Challenge(NamedTuple):
    """Playlists of one scenario: what is asked, and what is to be found."""

    queries: pd.DataFrame
    """One row per playlist: the raw query columns; those that the scenario does not give are null."""
    seeds: pd.DataFrame
    """`user_id`, `item_index` and `timestamp` of the seeds; `user_id` is the number of a query."""
    given: SeenItems
    """The seeds by query: they are not answered."""
    hidden: SeenItems
    """The distinct tracks that are hidden and no seeds."""


def challenge(data: FeatureSet, part: Part, scenario: Scenario) -> Challenge | None:
    """Make the queries of a scenario of the playlists of a part that are long enough; None if none is.

    The counts are those of the seeds, null if there are none. Seeds are a second apart, and the query comes a second
    after the last, as in the rows that the towers were trained on.
    """
    random = np.random.default_rng([_SEED, SCENARIOS.index(scenario)])
    stated: list[dict[str, Any]] = []
    seeds: list[Int64Array] = []
    hidden: list[Int64Array] = []
    titles = data.users.set_index(Columns.User)[TITLE] if TITLE in data.users else pd.Series(dtype=object)
    for user, start, items in _drawn(part, scenario, random):
        chosen = _chosen(len(items), scenario, random)
        rest = np.setdiff1d(items, items[chosen])
        if not len(rest):
            continue
        seeds.append(items[chosen])
        hidden.append(rest)
        facts = data.catalogue.iloc[seeds[-1]]
        title = titles.get(user) if scenario.title else None
        time = {Columns.Timestamp: start + scenario.seeds}
        stated.append({Columns.User: user, TITLE: title, **time, **_counts(facts)})
    if not stated:
        return None
    numbers = np.repeat(np.arange(len(seeds)), scenario.seeds)
    starts = np.array([query[Columns.Timestamp] for query in stated]) - scenario.seeds
    times = np.repeat(starts, scenario.seeds) + np.tile(np.arange(scenario.seeds), len(seeds))
    rows = pd.DataFrame({Columns.User: numbers, Columns.ItemIndex: np.concatenate(seeds), Columns.Timestamp: times})
    return Challenge(_with_nulls(pd.DataFrame(stated), data, part), rows, _by_query(seeds), _by_query(hidden))


def query_features(posed: Challenge, data: FeatureSet, transform: Transform) -> dict[str, np.ndarray]:
    """Return the query tower's features of a scenario's queries: as the request of an unknown playlist gives them."""
    features, spec = transform(posed.queries), sequence_spec(data.query_specs)
    if spec is None:
        return features
    rows = posed.queries.assign(**{Columns.User: np.arange(len(posed.queries))})
    return {**features, **history_features(spec, rows, posed.seeds, own=False)}


def _drawn(part: Part, scenario: Scenario, random: np.random.Generator) -> Iterator[tuple[Any, int, Int64Array]]:
    """Yield id, first timestamp and items, in their order, of the playlists that are longer than the seeds."""
    rows = part.interactions
    codes, users = pd.factorize(rows[Columns.User])
    order = np.lexsort((rows[Columns.Timestamp].to_numpy(), codes))
    ends = np.cumsum(np.bincount(codes))
    items, times = (rows[name].to_numpy(np.int64)[order] for name in (Columns.ItemIndex, Columns.Timestamp))
    starts = np.concatenate([[0], ends[:-1]])
    able = np.flatnonzero(ends - starts > scenario.seeds)
    for playlist in np.sort(random.permutation(able)[:PLAYLISTS]):
        yield users[playlist], int(times[starts[playlist]]), items[starts[playlist] : ends[playlist]]


def _chosen(length: int, scenario: Scenario, random: np.random.Generator) -> Int64Array:
    if scenario.drawn:
        return np.sort(random.choice(length, scenario.seeds, replace=False))
    return np.arange(scenario.seeds)


def _counts(facts: pd.DataFrame) -> dict[str, float]:
    return counts(facts[ARTIST], facts[ALBUM], facts[TRACK_DURATION])


def _with_nulls(stated: pd.DataFrame, data: FeatureSet, part: Part) -> pd.DataFrame:
    names = dict.fromkeys([*data.users.columns, *part.interactions.columns])
    blank = pd.Series([None] * len(stated), dtype=object)
    return stated.assign(**{name: blank for name in names if name not in stated})


def _by_query(lists: list[Int64Array]) -> SeenItems:
    queries = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    return SeenItems.of(queries, np.concatenate(lists).astype(np.int64), len(lists))
