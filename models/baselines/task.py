"""What peers learn from and are measured on: the rows, the split and the protocols of the two-tower."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from models.baselines.baseline import SameForAll, Scores
from models.config import Rating
from models.data import asked
from models.metrics import Int64Array, Ranking, SeenItems, rank_in_one_order, rank_users
from models.training.ratings import positives
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

    def rank(self, scores: Scores, progress: Progress = silent) -> dict[str, Ranking]:
        """Rank the targets among all items and among those that the user has not seen."""
        if isinstance(scores, SameForAll):
            return rank_in_one_order(scores.values, self.targets, self.users, self.seen)
        return rank_users(scores, self.targets, self.users, self.seen, self.interactions.shape[1], progress)

    def sample(self, rows: int, seed: int) -> Task:
        """Keep at most `rows` of the rows."""
        if len(self.targets) <= rows:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self.targets), rows, replace=False))
        return self._replace(users=self.users[kept], targets=self.targets[kept])


def validation_task(data: FeatureSet, rating: Rating) -> Task:
    """Learn from the training rows that `rating` makes positives, find the validation rows asked for."""
    return _task(data, data.train.interactions, data.valid, rating)


def test_task(data: FeatureSet, rating: Rating) -> Task:
    """Learn from the training and validation rows that `rating` makes positives, find the test rows asked for."""
    known = pd.concat([data.train.interactions, data.valid.interactions], ignore_index=True)
    return _task(data, known, data.test, rating)


def _task(data: FeatureSet, known: pd.DataFrame, part: Part, rating: Rating) -> Task:
    wanted = asked(data, part, known).interactions
    index = pd.Index(data.users[Columns.User])
    shape = len(data.users), len(data.catalogue)
    users, items = index.get_indexer(known[Columns.User]), known[Columns.ItemIndex].to_numpy(np.int64)
    seen = SeenItems.of(users.astype(np.int64), items, len(index))
    kept = positives(known, rating)
    interactions = csr_matrix((np.ones(kept.sum(), np.float32), (users[kept], items[kept])), shape=shape)
    interactions.data[:] = 1  # what was interacted with twice was added up
    rows = index.get_indexer(wanted[Columns.User]).astype(np.int64)
    return Task(interactions, seen, rows, wanted[Columns.ItemIndex].to_numpy(np.int64))
