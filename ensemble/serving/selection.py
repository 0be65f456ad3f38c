"""The columns with the largest scores of every row, unsorted: what an exact ranking then looks at more closely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_GROUP = 8
_ENOUGH_GROUPS = 1.5


class Leaders(NamedTuple):
    """At least the wanted number of the best columns of every row."""

    columns: np.ndarray
    """int64 [n, width], ascending; 0 past what a row has."""
    blank: np.ndarray | None
    """bool [n, width]: past what a row has; None: nowhere."""
    bound: np.ndarray
    """[n], type of the scores: no other column of the row has a larger score."""


def leaders(scores: np.ndarray, fetch: int) -> Leaders:
    """Return `fetch` or more columns with the largest scores, [n, total] with total > fetch, never one of -inf.

    The columns are dealt into groups. The `fetch`-th largest of the groups' maxima is a bound that `fetch` columns at
    least reach, and few more: all of these are taken, which costs a third of partitioning every row.
    """
    total = scores.shape[1]
    groups = total // _GROUP
    if groups < _ENOUGH_GROUPS * fetch:
        return _partitioned(scores, fetch)
    highest = scores[:, : groups * _GROUP].reshape(len(scores), _GROUP, groups).max(axis=1)
    highest.sort(axis=1)
    bound = highest[:, groups - fetch]
    if len(scores) == 1 and bound[0] > -np.inf:  # by far the most frequent, and no two lengths to bring together
        return Leaders((scores[0] >= bound[0]).nonzero()[0][None, :], None, bound)
    reached = scores >= bound[:, None]
    if bound.min() == -np.inf:
        reached &= scores > -np.inf
    return _joined(reached, bound)


def ranked(scores: np.ndarray, held: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the `held` largest scores of every row, best first, int64 [n, held], and those scores.

    Of equal scores the earlier column comes first; -inf is no score, and comes last in any order.
    """
    negative = -scores
    order = negative.argsort(axis=1)[:, : held + 1]  # the vectorised sort, a third of what the stable one takes
    line = np.arange(len(scores))[:, None]
    best = scores[line, order]
    if ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -np.inf)).any():
        order = negative.argsort(axis=1, kind="stable")
        best = scores[line, order]
    return order[:, :held], best[:, :held]


def _joined(reached: np.ndarray, bound: np.ndarray) -> Leaders:
    """Return the columns that are marked, bool [n, total], as one array."""
    rows, total = reached.shape
    counts = np.count_nonzero(reached, axis=1)
    width = int(counts.max())
    filled = np.arange(width) < counts[:, None]
    columns = np.zeros((rows, width), dtype=np.int64)
    columns[filled] = reached.ravel().nonzero()[0]
    columns -= (np.arange(rows) * total)[:, None]
    blank = ~filled
    columns[blank] = 0
    return Leaders(columns, blank, bound)


def _partitioned(scores: np.ndarray, fetch: int) -> Leaders:
    total = scores.shape[1]
    columns = scores.argpartition(total - fetch, axis=1)[:, total - fetch :]
    line = np.arange(len(scores))
    bound = scores[line, columns[:, 0]]  # the partition's own place: the smallest of them
    columns.sort(axis=1)
    blank = scores[line[:, None], columns] == -np.inf
    return Leaders(columns, blank, bound)
