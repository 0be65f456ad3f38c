"""Users and items: the tables that the recipe names, joined from the left to those that the interactions have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from workflows.columns import Columns
from workflows.errors import DataError
from workflows.sources.own_tables.cast import distinct, settled
from workflows.sources.own_tables.types import Mask


class Seen(NamedTuple):
    """What one pass over the interactions shows of users and items."""

    users: pd.Index
    items: pd.Index
    """Their ids, in the order in which they first appear."""
    titles: pd.Series | None
    """The first title of each item that has one in the interactions, by id."""


def seen(frames: Iterable[pd.DataFrame], min_user_rows: int, min_item_rows: int) -> Seen:
    """Look through the interactions for users and items; those of fewer rows are left out.

    That is repeated until all that are left have so many rows among what is left (the k-core); ids of all rows are then
    in memory.

    Raises
    ------
    DataError
        No row is left.
    """
    pairs: list[pd.DataFrame] = []
    titles: list[pd.Series] = []
    filtered = max(min_user_rows, min_item_rows) > 1

    def watched() -> Iterable[pd.DataFrame]:
        for frame in frames:
            if filtered:
                pairs.append(frame[[Columns.User, Columns.Item]])
            if Columns.Title in frame:
                titled = frame.dropna(subset=[Columns.Title]).drop_duplicates(Columns.Item)
                known = pd.concat([*titles, titled.set_index(Columns.Item)[Columns.Title]])
                titles[:] = [known[~known.index.duplicated()]]
            yield frame

    ids = distinct(watched(), [Columns.User, Columns.Item])
    if filtered and pairs:
        rows = pd.concat(pairs, ignore_index=True)
        rows = rows[core(rows, min_user_rows, min_item_rows)]
        ids = {column: rows[column].unique() for column in rows.columns} if len(rows) else {}
    if not ids:
        limits = f"with data.min_user_rows = {min_user_rows} and data.min_item_rows = {min_item_rows}" * filtered
        raise DataError(f"data.interactions: no good row is left {limits}".rstrip())
    return Seen(pd.Index(ids[Columns.User]), pd.Index(ids[Columns.Item]), titles[0] if titles else None)


def core(rows: pd.DataFrame, min_user_rows: int, min_item_rows: int) -> Mask:
    """Return which rows [n] are of users and items that have at least so many of the rows that are left."""
    codes = {column: pd.factorize(rows[column])[0] for column in (Columns.User, Columns.Item)}
    least = {Columns.User: min_user_rows, Columns.Item: min_item_rows}
    in_core = np.ones(len(rows), dtype=np.bool_)
    while True:
        few = np.zeros(len(rows), dtype=np.bool_)
        for column, numbers in codes.items():
            few |= (np.bincount(numbers[in_core], minlength=int(numbers.max(initial=0)) + 1) < least[column])[numbers]
        if not (few & in_core).any():
            return in_core
        in_core &= ~few


def joined(frame: pd.DataFrame | None, column: str, ids: pd.Index, filtered: bool) -> tuple[pd.DataFrame, pd.Index]:
    """Return a table with a row for every id of the interactions, and the ids that it did not have: theirs is null.

    Without a table it is made of the ids. `filtered`: rows of other ids go.

    Raises
    ------
    DataError
        The table and the interactions have no id in common.
    """
    if frame is None:
        return pd.DataFrame({column: ids}), ids[:0]
    table = "users" if column == Columns.User else "items"
    missing = ids.difference(pd.Index(frame[column]), sort=False)
    if len(missing) == len(ids) and len(frame):
        here, there = frame[column].iloc[0], ids[0]
        raise DataError(
            f"data.{table}: none of its {len(frame):,} ids (such as {here!r}) is among the {len(ids):,} of the "
            f"interactions (such as {there!r}); say which column holds them: data.{table}.columns = "
            f'{{ {column} = "..." }}, or leave data.{table} out'
        )
    if filtered:
        frame = frame[frame[column].isin(ids)].reset_index(drop=True)
    return (_appended(frame, column, missing, table) if len(missing) else frame), missing


def with_titles(items: pd.DataFrame, titles: pd.Series | None) -> pd.DataFrame:
    """Return items with a title: their own, else what the interactions call them, else their id."""
    own: Any = items[Columns.Title] if Columns.Title in items else pd.Series(None, items.index, dtype=object)
    if titles is not None:
        own = own.where(own.notna(), items[Columns.Item].map(titles))
    own = own.where(own.notna(), items[Columns.Item].astype(str))
    others = items.drop(columns=Columns.Title, errors="ignore")
    others.insert(1, Columns.Title, own)
    return others


def _appended(frame: pd.DataFrame, column: str, ids: pd.Index, table: str) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name, values in frame.items():
        if name == column:
            columns[str(name)] = np.concatenate([values, ids])
        elif values.dtype.kind == "i":
            whole = pd.concat([values.astype("Int64"), pd.Series([pd.NA] * len(ids), dtype="Int64")], ignore_index=True)
            columns[str(name)] = settled(whole.rename(name), table)
        else:
            lists = values.map(lambda value: isinstance(value, (list, np.ndarray))).any()
            null: list[Any] = [[] for _ in ids] if lists else [np.nan if values.dtype.kind == "f" else None] * len(ids)
            columns[str(name)] = pd.concat([values, pd.Series(null, dtype=values.dtype)], ignore_index=True)
    return pd.DataFrame(columns)
