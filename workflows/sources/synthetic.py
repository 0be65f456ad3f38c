"""Interactions of any size from a seed: users and items of power-law popularity, in clusters that a model can find."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.columns import Columns
from workflows.config import Synthetic
from workflows.progress import Progress
from workflows.tables.store import PART_ROWS, write_tables

_Int64 = npt.NDArray[np.int64]
_START: Final = 1_600_000_000
_MEAN_GAP_SECONDS: Final = 10
_CHANNELS: Final = np.array(["app", "mail", "search", "shop", "tv", "web"], dtype=object)
_MIDDLE_AGE: Final = 52
_TRIES: Final = 8
"""To find an item that suits the age."""
_WORDS: Final = ("amber", "brisk", "coral", "dusty", "eager", "fuzzy", "giant", "happy", "icy", "jolly")


def fetch(config: Synthetic, cache: Path, progress: Progress) -> Generated:
    """Return tables that are made while they are saved, part by part; the same for the same config anywhere.

    interactions: user_id and item_id int64, rating float32 (1 to 5), timestamp int64 that rises with the rows,
    channel str, and event str where the config has kinds. users: user_id, age int64, city str. items: item_id, title
    str, topic str, price float64.
    """
    return Generated(config, progress)


class Generated(NamedTuple):
    """Tables to be."""

    config: Synthetic
    progress: Progress

    def save(self, directory: Path) -> None:
        """Write the tables as `workflows.tables.store.write_tables` does."""
        world = _World.of(self.config)
        firsts = range(0, self.config.interactions, PART_ROWS)
        chunks = (world.interactions(number, first) for number, first in enumerate(firsts))
        rows = write_tables(directory, chunks, world.user_table(), world.item_table())
        self.progress(f"made {rows:,} interactions of {self.config.users:,} users and {self.config.items:,} items")


class _World(NamedTuple):
    """Who there is: people and things by falling popularity, and the clusters that they belong to."""

    config: Synthetic
    user_ids: _Int64
    item_ids: _Int64
    user_clusters: _Int64
    """[users]: what a user likes."""
    ages: _Int64
    prices: npt.NDArray[np.float64]

    @classmethod
    def of(cls, config: Synthetic) -> _World:
        random = np.random.default_rng(config.seed)
        return cls(
            config,
            user_ids=random.permutation(config.users).astype(np.int64) + 1,
            item_ids=random.permutation(config.items).astype(np.int64) + 1,
            user_clusters=random.integers(0, config.clusters, config.users),
            ages=random.integers(14, 90, config.users),
            prices=np.round(random.lognormal(2.5, 0.8, config.items), 2),
        )

    def user_table(self) -> pd.DataFrame:
        """Return users with a city, which leans towards a cluster: it says something about a user who is new."""
        cities = np.array([f"city {number:03d}" for number in range(3 * self.config.clusters)], dtype=object)
        place = self.user_clusters + self.config.clusters * (self.user_ids % 3)
        table = pd.DataFrame({Columns.User: self.user_ids, "age": self.ages, "city": cities[place]})
        return table.sort_values(Columns.User, ignore_index=True)

    def item_table(self) -> pd.DataFrame:
        topics = np.array([f"topic {number:03d}" for number in range(self.config.clusters)], dtype=object)
        topic = topics[np.arange(self.config.items) % self.config.clusters]
        words = np.array(_WORDS, dtype=object)[self.item_ids % len(_WORDS)]
        titles = words + np.array(" thing of ", dtype=object) + topic
        table = pd.DataFrame({Columns.Item: self.item_ids, Columns.Title: titles, "topic": topic, "price": self.prices})
        return table.sort_values(Columns.Item, ignore_index=True)

    def interactions(self, number: int, first: int) -> pd.DataFrame:
        """Return chunk `number`, whose first row is row `first` of all; it depends on no other chunk.

        The item at rank r of cluster c is item r * clusters + c: within its cluster it is chosen by its rank's
        popularity, and the cluster is the user's own with a probability of `affinity`.
        """
        random = np.random.default_rng([self.config.seed, number])
        rows = min(PART_ROWS, self.config.interactions - first)
        users = _ranks(random, self.config.users, self.config.skew, rows)
        loyal = random.random(rows) < self.config.affinity
        clusters = np.where(loyal, self.user_clusters[users], random.integers(0, self.config.clusters, rows))
        places = _ranks(random, self.config.items // self.config.clusters, self.config.skew, rows)
        rating = np.clip(np.round(random.normal(np.where(loyal, 4.0, 3.0), 1.0)), 1, 5).astype(np.float32)
        kinds, clusters, places = self._events(number, users, clusters, places)
        seconds = _START + (first + np.arange(rows)) * _MEAN_GAP_SECONDS + random.integers(0, 3600, rows)
        return pd.DataFrame(
            {
                Columns.User: self.user_ids[users],
                Columns.Item: self.item_ids[places * self.config.clusters + clusters],
                Columns.Rating: rating,
                Columns.Timestamp: seconds,
                "channel": _CHANNELS[_ranks(random, len(_CHANNELS), 1.0, rows)],
                **kinds,
            }
        )

    def _events(
        self, number: int, users: _Int64, clusters: _Int64, places: _Int64
    ) -> tuple[dict[str, npt.NDArray[np.object_]], _Int64, _Int64]:
        """Draw the rows' kinds of events, by numbers of their own, and what is chosen in those after the first."""
        shares = np.array([*self.config.events.values()])
        if not len(shares):
            return {}, clusters, places
        random = np.random.default_rng([self.config.seed, number, 1])
        kinds = random.choice(len(shares), len(users), p=shares / shares.sum())
        clusters, places = np.where(kinds > 0, self.user_clusters[users], clusters), places.copy()
        picky, wants_dear = kinds == max(len(shares) - 1, 1), self.ages[users] >= _MIDDLE_AGE
        dear, a_cluster = self.prices > np.median(self.prices), self.config.items // self.config.clusters
        for _ in range(_TRIES):
            wrong = picky & (dear[places * self.config.clusters + clusters] != wants_dear)
            places[wrong] = _ranks(random, a_cluster, self.config.skew, int(wrong.sum()))
        return {Columns.Event: np.array([*self.config.events], dtype=object)[kinds]}, clusters, places


def _ranks(random: np.random.Generator, size: int, skew: float, rows: int) -> _Int64:
    """Draw `rows` of 0..size-1, rank r with a probability proportional to (r + 1) ** -skew."""
    cumulative = np.cumsum(np.arange(1, size + 1, dtype=np.float64) ** -skew)
    return cumulative.searchsorted(random.random(rows) * cumulative[-1], side="right").astype(np.int64)
