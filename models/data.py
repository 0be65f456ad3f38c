"""Parts of a feature set put together: whose rows, what they may look back on, what their users have seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.metrics import Int64Array, SeenItems
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.features.files import read_rows
from workflows.features.history import history_features, sequence_spec
from workflows.features.stage import FeatureSet, FeatureSpec, Part, load, reading

CONTINUED_ROWS = 10_000
"""At most so many rows of held-out playlists are asked for, each a query of its own."""

TRAINED = (Columns.User, Columns.ItemIndex, Columns.Timestamp, Columns.Rating, Columns.Event)
"""The columns of interactions that training looks at, as far as there are such."""

Known = Union[pd.DataFrame, Mapping[str, Any]]
"""Interactions; to ask who and what is among them, the users and the items by the names of their columns will do."""


def join(parts: Sequence[Part]) -> Part:
    """Append the rows of parts to one another."""
    query = {name: np.concatenate([part.query[name] for part in parts]) for name in parts[0].query}
    return Part(query, pd.concat([part.interactions for part in parts], ignore_index=True))


def rows_of(data: FeatureSet, parts: Sequence[str]) -> Part:
    """Return the rows of parts that memory holds, of one as they are."""
    chosen = [getattr(data, name) for name in parts]
    return chosen[0] if len(chosen) == 1 else join(chosen)


def asked(data: FeatureSet, part: Part, known: Known) -> Part:
    """Keep the rows of the validation or the test part that the split asks for; `known` are those learned from.

    Of held-out playlists these are at most CONTINUED_ROWS, drawn evenly; the same ones every time. Of these rows the
    sample of `data` is kept, if there is one.

    Raises
    ------
    DataError
        None is left.
    """
    whole = _asked(data, part, known)
    if data.sample is None:
        return whole
    users = pd.factorize(whole.interactions[Columns.User])[0]
    return _kept(whole, np.flatnonzero(of_drawn_users(users.astype(np.int64), *data.sample)))


def _asked(data: FeatureSet, part: Part, known: Known) -> Part:
    if data.asked == "all":
        return part
    rows = part.interactions
    if data.asked == "continued":
        drawn = np.random.default_rng(CONTINUED_ROWS).permutation(len(rows))[:CONTINUED_ROWS]
        return _kept(part, np.sort(drawn))
    known_pairs = rows[Columns.User].isin(known[Columns.User]) & rows[Columns.ItemIndex].isin(known[Columns.ItemIndex])
    if not known_pairs.any():
        raise DataError(
            f'data.split: none of {len(rows):,} rows has a user and an item of the rows before; ask for "all" of them'
        )
    return _kept(part, known_pairs.to_numpy())


def of_drawn_users(users: Int64Array, rows: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which of the rows of `users`, int64 `[n]`, to keep for about so many: all those of users drawn evenly.

    Figures per user, and whether a user has a hit, then mean what they mean over all rows. One user stays at least.
    """
    if len(users) <= rows:
        return np.ones(len(users), bool)
    drawn = np.random.default_rng(seed).permutation(np.unique(users))
    return np.isin(users, drawn[: max(1, round(len(drawn) * rows / len(users)))])


def load_tested(directory: Path) -> FeatureSet:
    """Read the test rows, and of all rows before them, which then are the training rows, the columns TRAINED alone.

    Raises
    ------
    StageError
        The directory is missing, unreadable or incomplete.
    """
    data = load(directory, parts=("test",))
    with reading(directory):
        before = [read_rows(directory / name, TRAINED) for name in ("train", "valid")]
    return data._replace(train=Part({}, pd.concat(before, ignore_index=True)))


def known_rows(data: FeatureSet) -> pd.DataFrame:
    """Return the raw rows of training and validation, which test rows may look back on."""
    rows = [part.interactions for part in (data.train, data.valid) if len(part.interactions)]
    return rows[0] if len(rows) == 1 else pd.concat(rows, ignore_index=True)


def queries(data: FeatureSet, part: Part, known: pd.DataFrame) -> Part:
    """Return the rows of the validation or the test part that are asked for, with what each may look back on.

    That is what `known` has of their users; and of held-out playlists, which it does not hold, what is before the row.
    """
    if data.asked == "continued":
        return asked(data, with_history(part, data.query_specs), known)
    return with_history(asked(data, part, known), data.query_specs, known)


def _kept(part: Part, rows: npt.NDArray[Any]) -> Part:
    return Part({name: values[rows] for name, values in part.query.items()}, part.interactions.iloc[rows])


def first_rows(part: Part, most: int) -> Part:
    """Return the first rows of a part, at most so many."""
    return Part({name: values[:most] for name, values in part.query.items()}, part.interactions.iloc[:most])


def with_history(part: Part, specs: Sequence[FeatureSpec], known: pd.DataFrame | None = None) -> Part:
    """Add the sequence features, if there are any, to a part.

    `known` are the interactions that a query may look back on; without it they are the part's own, each row looking
    back on the others and never on itself.
    """
    spec, rows = sequence_spec(specs), part.interactions
    if spec is None:
        return part
    history = history_features(spec, rows, rows if known is None else known, own=known is None)
    return part._replace(query={**part.query, **history})


def users_and_seen(evaluated: pd.DataFrame, known: pd.DataFrame) -> tuple[Int64Array, SeenItems]:
    """Return the users of `evaluated` as numbers, int64 `[rows]`, and what each of them has in `known`."""
    users, names = pd.factorize(evaluated[Columns.User])
    theirs = known[known[Columns.User].isin(names)]
    rows = pd.Index(names).get_indexer(theirs[Columns.User])
    items = theirs[Columns.ItemIndex].to_numpy(np.int64)
    return users.astype(np.int64), SeenItems.of(rows.astype(np.int64), items, len(names))


def distinct_rows(columns: Sequence[npt.NDArray[Any]]) -> tuple[Int64Array, Int64Array]:
    """Find rows that are alike in all columns, arrays `[n, ...]`, bit by bit.

    Returns
    -------
    tuple
        The first of each kind of row, int64 `[distinct]`, ascending; and each row's kind, int64 `[n]`.
    """
    words = [word for column in columns for word in _words(column)]
    multipliers = np.random.default_rng(0).integers(0, 2**63, len(words), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = np.zeros(len(columns[0]), np.uint64)
    for word, multiplier in zip(words, multipliers, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(29))) * multiplier + word
    kinds, _ = pd.factorize(pd.Series(mixed))
    first = np.unique(kinds, return_index=True)[1].astype(np.int64)
    representative = first[kinds]
    if not all(np.array_equal(word, word[representative]) for word in words):  # two kinds with one number
        return np.arange(len(kinds)), np.arange(len(kinds))
    return first, kinds.astype(np.int64)


def _words(column: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield the values of each row as numbers of 64 bits, uint64 `[n]`, one position after another."""
    flat = np.ascontiguousarray(column).reshape(len(column), -1)
    for values in flat.T:
        yield np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").astype(np.uint64)


def distinct_queries(data: FeatureSet, part: Part, known: pd.DataFrame) -> tuple[Part, Int64Array]:
    """Do what `queries` does, with rows of one user and the same query kept once.

    Returns
    -------
    tuple
        A row for each query; and for each row asked for, its query, int64 `[rows]`.
    """
    if data.asked == "continued":
        rows = queries(data, part, known)
        return rows, np.arange(len(rows.interactions))
    rows = asked(data, part, known)
    users = pd.factorize(rows.interactions[Columns.User])[0]
    dated = [rows.interactions[Columns.Timestamp].to_numpy()] if sequence_spec(data.query_specs) else []
    first, query = distinct_rows([users, *dated, *rows.query.values()])
    return with_history(_kept(rows, first), data.query_specs, known), query
