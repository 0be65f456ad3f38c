"""The features that a training looks at, which are all of them, or few where its rows are streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from models.config import Train
from models.data import TRAINED, Known, asked, first_rows, join, rows_of
from models.training.export import CHECKED_ROWS
from models.training.stream.conditions import is_streamed
from workflows.columns import Columns
from workflows.features import stage as features
from workflows.features.files import read_pieces
from workflows.features.stage import FeatureSet, Part, Sample

_LOOKED_BACK_ON: Final = (Columns.User, Columns.ItemIndex, Columns.Timestamp)


def load(directory: Path, train: Train) -> FeatureSet:
    """Read the features that training looks at.

    Where training rows are streamed these are the validation rows that are asked for (`[train] validation_rows`), some
    test rows for the export to be checked with, and the interactions that their users had before.

    Raises
    ------
    StageError
        The directory is missing, unreadable or incomplete.
    DataError
        No validation row is asked for.
    """
    columns = None if train.tasks else TRAINED
    if not is_streamed(features.row_counts(directory)["train"]):
        return features.load(directory, columns)
    data = features.load(directory, columns, parts=("valid",))._replace(stored=directory)
    if train.validation_rows is not None:
        data = data._replace(sample=Sample(train.validation_rows, 0))
    if data.asked != "continued":  # held-out playlists look back on themselves
        valid = asked(data, data.valid, _known(directory, data) if data.asked == "known" else data.train.interactions)
        data = data._replace(valid=valid, asked="all", sample=None)
    test = _first(directory / "test", CHECKED_ROWS)
    users = [part.interactions[Columns.User] for part in (data.valid, test)]
    known = _interactions_of(directory, pd.concat(users).unique())
    return data._replace(test=test, train=Part({}, known))


def rows_with(data: FeatureSet, parts: Sequence[str], feature: str) -> Part:
    """Return the rows of parts with a query feature at least, whether memory holds them or not."""
    if data.stored is None:
        return rows_of(data, parts)
    pieces = (piece for name in parts for piece in read_pieces(data.stored / name, TRAINED, query=True))
    return join([Part({feature: piece.query[feature]}, piece.rows) for piece in pieces])


def _train_rows(directory: Path, *columns: str) -> Iterator[pd.DataFrame]:
    return (piece.rows for piece in read_pieces(directory / "train", columns))


def _known(directory: Path, data: FeatureSet) -> Known:
    """Return which users of the validation rows, and which items, are in the rows trained on."""
    users, items = data.valid.interactions[Columns.User].unique(), np.zeros(len(data.catalogue), bool)
    index, is_known = pd.Index(users), np.zeros(len(users) + 1, bool)
    for rows in _train_rows(directory, Columns.User, Columns.ItemIndex):
        is_known[index.get_indexer(pd.Index(rows[Columns.User]))] = True  # -1, the last one: of no such user
        items[rows[Columns.ItemIndex]] = True
    return {Columns.User: users[is_known[:-1]], Columns.ItemIndex: np.flatnonzero(items)}


def _interactions_of(directory: Path, users: Any) -> pd.DataFrame:
    """Return the training rows of some users, in the order of the split."""
    index = pd.Index(users)
    pieces = [
        rows[index.get_indexer(pd.Index(rows[Columns.User])) >= 0] for rows in _train_rows(directory, *_LOOKED_BACK_ON)
    ]
    return pd.concat(pieces).sort_index().reset_index(drop=True)


def _first(part: Path, most: int) -> Part:
    """Return the rows of a part's first file, at most so many."""
    query, rows = next(read_pieces(part, TRAINED, query=True))
    return first_rows(Part(query, rows.reset_index(drop=True)), most)
