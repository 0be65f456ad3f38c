"""Selects the columns with the largest scores of every row, unsorted, for an exact ranking."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_GROUP = 8
_ENOUGH_GROUPS = 1.5


class Leaders(NamedTuple):
    """The best columns of every row, at least the wanted number."""

    columns: np.ndarray
    """int64 [n, width], ascending; 0 past what a row has."""
    blank: np.ndarray | None
    """bool [n, width]: past what a row has; None: nowhere."""
    bound: np.ndarray
    """[n], type of the scores: no other column of the row has a larger score."""


def leaders(scores: np.ndarray, fetch: int) -> Leaders:
    """Return `fetch` or more columns with the largest scores, [n, total] with total > fetch, never one of -inf.

    The columns are dealt into groups. At least `fetch` columns, and few more, reach the `fetch`-th largest of the
    groups' maxima; all of these are taken. That costs a third of partitioning every row.
    """
    total = scores.shape[1]
    groups = total // _GROUP
    if groups < _ENOUGH_GROUPS * fetch:
        return _partitioned(scores, fetch)
    highest = np.maximum.reduce(scores[:, : groups * _GROUP].reshape(len(scores), _GROUP, groups), axis=1)
    highest.sort(axis=1)
    bound = highest[:, groups - fetch]
    if len(scores) == 1 and bound[0] > -np.inf:  # by far the most frequent, and no two lengths to bring together
        return Leaders((scores[0] >= bound[0]).nonzero()[0][None, :], None, bound)
    reached = scores >= bound[:, None]
    if min(bound.tolist()) == -np.inf:
        reached &= scores > -np.inf
    return _joined(reached, bound)


def ranked(scores: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the `width` largest scores of every row, best first, int64 [n, width], and the scores.

    Ties are in column order; columns with -inf come last, in any order.
    """
    negative = -scores
    order = negative.argsort(axis=1)[:, : width + 1]  # the vectorised sort, a third of what the stable one takes
    best = taken(scores, order)
    equal = best[:, 1:] == best[:, :-1]
    if np.count_nonzero(equal) and (equal & (best[:, 1:] > -np.inf)).any():
        order = negative.argsort(axis=1, kind="stable")
        best = taken(scores, order)
    return order[:, :width], best[:, :width]


def taken(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return each row's values, [n, total], at its own columns, int64 [n, width], twice as fast as two index arrays."""
    if len(values) == 1:
        return values[0].take(columns)
    return values.ravel().take(columns + (np.arange(len(values)) * values.shape[1])[:, None])


def _joined(reached: np.ndarray, bound: np.ndarray) -> Leaders:
    """Return the marked columns, bool [n, total], as one array."""
    rows, total = reached.shape
    positions = reached.ravel().nonzero()[0]
    edges = np.arange(0, rows * total + 1, total)
    bounds = positions.searchsorted(edges)
    counts = (bounds[1:] - bounds[:-1])[:, None]
    place = np.arange(int(np.maximum.reduce(counts, axis=None)))
    blank = place >= counts
    # Past its own, a row reads on in the next one's; `blank` says so.
    columns = positions.take(place + bounds[:-1, None], mode="clip")
    columns -= edges[:-1, None]
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
