"""Every user asked once: the queries behind the figures per user."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from models.baselines.task import Task
from models.data import known_rows, with_history
from models.metrics import Int64Array
from workflows.columns import Columns
from workflows.features.stage import FeatureSet, Part

Transform = Callable[[pd.DataFrame], dict[str, np.ndarray]]
"""Raw query columns, n rows, to the query tower's features but the history."""


class Pairs(NamedTuple):
    """The distinct users and items of the test rows asked for."""

    rows: Int64Array
    """int64 `[pairs]`: the first of the task's rows that has each."""
    task: Task
    """The same task with one row per pair."""

    @classmethod
    def of(cls, task: Task) -> Pairs:
        """Keep each pair of user and item once."""
        keys = task.users * task.interactions.shape[1] + task.targets
        rows = np.sort(np.unique(keys, return_index=True)[1]).astype(np.int64)
        return cls(rows, task._replace(users=task.users[rows], targets=task.targets[rows]))


def one_query_per_user(data: FeatureSet, users: Int64Array, transform: Transform) -> Part:
    """Return a query for each of `users`, rows of `data.users`, as `retrieval recommend --timestamp last` asks it.

    That is at the time of the user's newest training or validation row (of users without one, of all rows), with the
    user's own columns; other columns of the interactions are null.
    """
    known = known_rows(data)
    newest = known.groupby(Columns.User)[Columns.Timestamp].max()
    query_rows = data.users.iloc[users].reset_index(drop=True)
    times = query_rows[Columns.User].map(newest).fillna(known[Columns.Timestamp].max())
    blank = pd.Series([None] * len(query_rows), dtype=object)
    unknown = {str(name): blank for name in data.test.interactions if name not in query_rows}
    query_rows = query_rows.assign(**{**unknown, Columns.Timestamp: times.astype(np.int64)})
    return with_history(Part(transform(query_rows), query_rows), data.query_specs, known)
