"""What peers learn from and are measured on: the rows, the split and the protocols of the two-tower."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from models.baselines.baseline import Peer, SameForAll, Scores
from models.config import Rating
from models.data import asked, known_rows, of_drawn_users
from models.metrics import Int64Array, Ranking, SeenItems, rank_in_one_order, rank_users
from models.training.losses.ratings import positives
from workflows.columns import Columns
from workflows.features.stage import FeatureSet, Part
from workflows.progress import Progress, silent


class Task(NamedTuple):
    """Interactions to learn from, what users have seen, and rows whose item is to be found."""

    interactions: csr_matrix
    """Float32 `[users, items]`, 1 where the user has the item as a positive."""
    seen: SeenItems
    """What each user has, positive or not."""
    users: Int64Array
    """Int64 `[rows]`, a row of `interactions` each."""
    targets: Int64Array
    """Int64 `[rows]`, item indices."""
    later: csr_matrix | None = None
    """Int64, an entry for each of `interactions`: how many of the user's items came after it. None without times."""

    def fit(self, peer: Peer) -> Scores:
        """Fit a peer on what is to be learned from."""
        return peer.fit(self.interactions, self.later)

    def rank(self, scores: Scores, coverage: bool = True, progress: Progress = silent) -> dict[str, Ranking]:
        """Rank the targets among all items and among those that the user has not seen."""
        if isinstance(scores, SameForAll):
            return rank_in_one_order(scores.values, self.targets, self.users, self.seen)
        wanted = self.targets, self.users, self.seen, self.interactions.shape[1]
        return rank_users(scores, *wanted, coverage=coverage, progress=progress)

    def sample(self, rows: int, seed: int) -> Task:
        """Keep about `rows` of the rows, all of some users."""
        kept = of_drawn_users(self.users, rows, seed)
        return self._replace(users=self.users[kept], targets=self.targets[kept])


def validation_task(data: FeatureSet, rating: Rating) -> Task:
    """Learn from the training rows that `rating` makes positives, find the validation rows asked for."""
    return _task(data, data.train.interactions, data.valid, rating)


def test_task(data: FeatureSet, rating: Rating, *, dated: bool) -> Task:
    """Learn from the training and validation rows that `rating` makes positives, find the test rows asked for.

    Without `dated` the task has no times, which all known rows would be sorted for.
    """
    return _task(data, known_rows(data), data.test, rating, dated)


def _task(data: FeatureSet, known: pd.DataFrame, part: Part, rating: Rating, dated: bool = True) -> Task:
    wanted = asked(data, part, known).interactions
    index = pd.Index(data.users[Columns.User])
    shape = len(data.users), len(data.catalogue)
    users, items = index.get_indexer(known[Columns.User]), known[Columns.ItemIndex].to_numpy(np.int64)
    seen = SeenItems.of(users.astype(np.int64), items, len(index))
    kept = positives(known, rating)
    interactions = interaction_matrix(users[kept], items[kept], shape)
    rows = index.get_indexer(wanted[Columns.User]).astype(np.int64)
    times = known[Columns.Timestamp].to_numpy(np.int64)[kept]
    later = count_later(users[kept], items[kept], times, shape) if dated else None
    return Task(interactions, seen, rows, wanted[Columns.ItemIndex].to_numpy(np.int64), later)


def interaction_matrix(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """Return who has what, 1, float32 `[users, items]`, of whole numbers `[rows]` each; some may be there twice."""
    matrix = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
    matrix.data[:] = 1
    return matrix


def count_later(users: Int64Array, items: Int64Array, times: Int64Array, shape: tuple[int, int]) -> csr_matrix | None:
    """Count, for each user and item, the user's items whose last row is after this one's; None without times.

    Of equal times the later row is the newer. Returns int64 `[users, items]` with an entry for each pair.
    """
    if not len(times) or times.min() == times.max():
        return None
    newest_first = np.lexsort((times, users))[::-1]
    users, items = users[newest_first].astype(np.int64), items[newest_first]
    first = np.sort(np.unique(users * shape[1] + items, return_index=True)[1])
    users, items = users[first], items[first]
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    place = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    order = np.lexsort((items, users))
    offsets = np.searchsorted(users[order], np.arange(shape[0] + 1))
    return csr_matrix((place[order], items[order], offsets), shape=shape)
