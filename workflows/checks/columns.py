"""Columns in which there is little to learn from, or that are not what they seem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from workflows.checks.findings import EXAMPLES, Finding, Severity, plain
from workflows.columns import Columns
from workflows.config import FeatureSide
from workflows.features.plan import named
from workflows.tables.store import Stored, read_part

NULL_WORDS: Final = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none", "\\N", "#N/A", "?", "-")
MOSTLY: Final = 0.5
NEARLY_ALL: Final = 0.9
MANY_TITLES: Final = 0.05
ENOUGH: Final = 100
"""Rows below which shares say nothing."""

Used = dict[str, list[Any]]
"""Raw column -> the features that are made of it."""


def used_columns(query: FeatureSide, item: FeatureSide) -> Used:
    """Return the features of each raw column; those that read several columns stand under each."""
    used: Used = {}
    for column, feature in (*query.each(), *item.each()):
        for name in dict.fromkeys((column, *feature.columns(column))):
            used.setdefault(name, []).append(feature)
    return used


def column_findings(stored: Stored, used: Used) -> Iterator[Finding]:
    """Yield what is suspicious in single columns."""
    for table, frame, key in (("users", stored.users, Columns.User), ("items", stored.items, Columns.Item)):
        yield from _ids(table, frame[key])
        for name in frame.columns:
            if name != key and len(frame) > 1:
                yield from _column(table, frame[name], frame[key], used)
    yield from _titles(stored.items)
    yield from _interactions(stored, used)


def event_findings(stored: Stored, kinds: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the column `event`, if the recipe names its `kinds`."""
    if not kinds:
        return
    where, total = ("event", "interactions"), sum(stored.rows)
    if Columns.Event not in pq.read_schema(stored.parts[0]).names:
        message = "there is no such column, which train.tasks.events tells apart"
        remedy = 'say which it is: data.interactions.columns = { event = "..." }'
        yield Finding("error", *where, total, total, message, remedy, Columns.Event)
        return
    counts = stored.read([Columns.Event])[Columns.Event].astype(str).value_counts()
    unknown = counts.drop(list(kinds), errors="ignore").sort_index()
    if len(unknown):
        message = f"kinds that train.tasks.events does not name: {', '.join(unknown.index[:10])}"
        remedy = "name them; a weight of 0 leaves one out"
        yield Finding("error", *where, int(unknown.sum()), total, message, remedy, Columns.Event)
    for kind in (kind for kind in kinds if kind not in counts):
        remedy = "leave it out of train.tasks.events.kinds, or correct its name"
        yield Finding("warning", *where, 0, total, f"no row is a {kind!r}", remedy, Columns.Event)


def number_findings(stored: Stored, query: FeatureSide, item: FeatureSide) -> Iterator[Finding]:
    """Yield the columns that give a feature which is not finite in float32."""
    for side in (query, item):
        for entry in named(side):
            for column, unfit in entry.feature.unfit(entry.column).items():
                table, values = _values_of(stored, column, "items" if side is item else "users")
                if values is None or not len(rows := np.flatnonzero(unfit(values))):
                    continue
                message = (
                    "makes a feature that is not finite in float32: a NaN in a vector, or a number that is too large"
                )
                remedy = "correct the values, make them null, or set clip_min and clip_max"
                examples = [{"row": int(row), column: str(values.iloc[row])[:60]} for row in rows[:EXAMPLES]]
                yield Finding("error", "not-finite", table, len(rows), len(values), message, remedy, column, examples)


def _values_of(stored: Stored, column: str, entities: str) -> tuple[str, pd.Series | None]:
    """Return the table that has the column, as the features stage finds it, and its values; None where none has."""
    frame = stored.items if entities == "items" else stored.users
    has = column in pq.read_schema(stored.parts[0]).names
    if has and (entities == "users" or column not in frame):  # of items, what an aggregate is of
        return "interactions", stored.read([column])[column]
    if column not in frame:
        return entities, None
    return entities, frame[column]


def _ids(table: str, ids: pd.Series) -> Iterator[Finding]:
    """Ids of text that differ in white space or case alone are likely one id."""
    if ids.dtype != object:
        return
    padded = ids != ids.str.strip()
    if padded.any():
        yield _finding(
            "warning", "id/space", table, str(ids.name), ids, padded, "ids begin or end with white space",
            "strip them where they come from, in every table",
        )  # fmt: skip
    folded = ids.str.strip().str.casefold()
    alike = folded.duplicated(keep=False)
    if alike.any():
        order = folded[alike].sort_values(kind="stable").index
        yield _finding(
            "warning", "id/case", table, str(ids.name), ids.loc[order], alike.loc[order],
            "ids differ only in case or white space", "write each id in one way, if they mean the same", of=len(ids),
        )  # fmt: skip


def _column(table: str, values: pd.Series, ids: pd.Series, used: Used) -> Iterator[Finding]:
    name = str(values.name)
    features = used.get(name, [])
    severity: Severity = "warning" if features else "note"
    null = values.isna()
    lists = values.map(lambda value: isinstance(value, (list, np.ndarray)))
    if lists.any():
        null = values.map(lambda value: not len(value) if isinstance(value, (list, np.ndarray)) else True)
    present = values[~null]
    distinct = present.map(repr).nunique() if lists.any() else present.nunique()
    if distinct <= 1 and (not distinct or not null.any()):
        what = "is always the same" if distinct else "has no values"
        yield _finding(severity, "constant", table, name, values, None, what, "leave it out")
        return
    if null.mean() >= MOSTLY:
        yield _finding(severity, "null", table, name, ids, null, "is mostly null", "leave it out, or fill it in")
    yield from _text(table, present, features, distinct, len(values))
    if present.dtype.kind == "f" and np.isinf(present).any():
        yield _finding(
            severity, "infinite", table, name, present, np.isinf(present), "has infinite numbers", "correct them"
        )


def _text(table: str, present: pd.Series, features: list[Any], distinct: int, rows: int) -> Iterator[Finding]:
    name = str(present.name)
    if present.dtype == object and present.map(lambda value: isinstance(value, str)).all():
        words = present.isin(NULL_WORDS)
        if words.any() and name != Columns.Title:
            yield _finding(
                "warning", "null-word", table, name, present, words, "has text that may stand for null",
                f"if it does, make it null (of your own CSV: data.{table}.nulls)", of=rows,
            )  # fmt: skip
        number = name != Columns.Title and pd.to_numeric(present, errors="coerce").notna().all()
        if number and not present.str.match(r"-?0\d").any():
            yield _finding(
                "note", "number-as-text", table, name, present, None, "has numbers, stored as text",
                f"if they are quantities: data.{table}.types", of=rows,
            )  # fmt: skip
    if any(feature.learns_every_value for feature in features) and rows >= ENOUGH and distinct > NEARLY_ALL * rows:
        yield _finding(
            "warning", "near-unique", table, name, present, None,
            f"is a category with {distinct:,} values in {rows:,} rows: nothing is shared", "leave it out", of=rows,
        )  # fmt: skip


def _titles(items: pd.DataFrame) -> Iterator[Finding]:
    titles = items[Columns.Title]
    same = titles.duplicated(keep=False)
    if same.any() and titles.nunique() > 1:
        order = titles[same].sort_values(kind="stable").index
        severity: Severity = "warning" if same.mean() >= MANY_TITLES and len(items) >= ENOUGH else "note"
        yield _finding(
            severity, "same-title", "items", Columns.Title, items[Columns.Item].loc[order], same.loc[order],
            "items share their title with another", "are they one item? then give them one id", of=len(items),
        )  # fmt: skip


def _interactions(stored: Stored, used: Used) -> Iterator[Finding]:
    """Columns of the interactions that are always the same, or mostly null; read part by part."""
    core = (Columns.User, Columns.Item, Columns.Timestamp, Columns.Rating)
    nulls: dict[str, int] = {}
    seen: dict[str, set[str]] = {}
    for path in stored.parts:
        part = read_part(path)
        for name in part.columns:
            if name in core:
                continue
            nulls[name] = nulls.get(name, 0) + int(part[name].isna().sum())
            known = seen.setdefault(name, set())
            if len(known) < 2:
                known.update(map(repr, _distinct(part[name].dropna())[:2]))
    rows = sum(stored.rows)
    for name, missing in nulls.items():
        severity: Severity = "warning" if name in used else "note"
        constant = len(seen[name]) < 2 and (missing == 0 or not seen[name])
        if constant or missing >= MOSTLY * rows:
            what = "is always the same" if seen[name] else "has no values"
            check, concerned, message = ("constant", rows, what) if constant else ("null", missing, "is mostly null")
            yield Finding(severity, check, "interactions", concerned, rows, message, "leave it out", name)


def _distinct(values: pd.Series) -> Any:
    try:
        return values.unique()
    except TypeError:  # lists
        return values.map(repr).unique()


def _finding(
    severity: Severity,
    check: str,
    table: str,
    column: str,
    shown: pd.Series,
    wrong: Any,
    message: str,
    remedy: str,
    of: int | None = None,
) -> Finding:
    """`wrong` [n] says which rows, None: all; of `shown` [n] the first of them are the examples."""
    rows = shown if wrong is None else shown[np.asarray(wrong, dtype=bool)]
    first = rows.iloc[:EXAMPLES]
    examples = [{"row": _plain(row), str(shown.name): _plain(value)} for row, value in first.items()]
    return Finding(severity, check, table, len(rows), of or len(shown), message, remedy, column, examples)


def _plain(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (int, float)) else str(value)[:60]
