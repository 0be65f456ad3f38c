"""Which kind of feature suits a column, and why."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from ensemble.serving.names import RESERVED
from retrieval.init.columns.profile import Profile, holds_objects
from retrieval.init.columns.words import NAMING_IDS, name_score, parts_of
from retrieval.init.times.formats import readings
from retrieval.recipes.toml import inline
from workflows.columns import Columns
from workflows.features.plan import HISTORY, HISTORY_AGE
from workflows.operators.text import tokens

FEW: Final = 24
"""Whole numbers of so few values are categories rather than quantities."""
MANY: Final = 10_000
"""Vocabularies beyond this keep their most frequent values."""
SEPARATORS: Final = ("|", ";", ",")
TRIED: Final = 20_000
ADDRESS: Final = r"(?i)(https?://|www\.)|.*\.(jpe?g|png|gif|webp|svg)$|[^@\s]+@[^@\s]+\.\w+$"
VECTOR: Final = r"\s*\[?\s*[+-]?\d+\.\d*([\s,;]+[+-]?[\d.eE+-]+)+\s*\]?\s*$"
"""Addresses on the web, of pictures and of mail; lists of numbers with decimals."""
CODES: Final = {
    *NAMING_IDS, "ean", "upc", "gtin", "barcode", "mpn", "manufacturer", "brand", "vendor", "supplier", "seller",
    "department", "category", "subcategory", "commodity", "class", "type", "group", "cluster", "store", "zip",
    "zipcode", "postcode", "phone",
}  # fmt: skip
"""Numbers that are called so name something; their size says nothing."""


class Choice(NamedTuple):
    """What becomes of a column."""

    kind: str | None
    """Of the feature; None: it is left out."""
    options: dict[str, object]
    why: str
    separator: str | None = None
    """Of text that holds lists."""
    type: str | None = None
    """That the table's `types` must give it."""

    def toml(self) -> str:
        """Return the feature as the recipe writes it."""
        return inline({"kind": self.kind, **self.options})


def choose(column: Profile) -> Choice:
    """Return the feature of an attribute of users or items, by what it holds."""
    if column.dtype not in ("integer", "float", "string", "datetime", "list"):
        return Choice(None, {}, f"holds {column.dtype}, which tables cannot hold")
    if column.distinct == 0:
        return Choice(None, {}, "nothing but nulls")
    if column.distinct == 1 and not column.nulls:
        return Choice(None, {}, f"always {_short(column.values.iloc[0])}")
    if holds_objects(column) and column.dtype == "string":
        return Choice(None, {}, "objects: make columns of what is in them")
    choice = {"list": _list, "string": _text, "datetime": _date}.get(column.dtype, _number)(column)
    nulls = column.nulls / column.rows
    return choice._replace(why=f"{choice.why}, {nulls:.0%} null") if nulls >= 0.01 else choice


def title() -> Choice:
    """Return the feature of the items' title."""
    return Choice("text", {}, "its words")


def identity(distinct: int) -> Choice:
    """Return the feature of an id."""
    return Choice("categorical", {}, f"{distinct:,} of them, each with a vector of its own")


def renamed(name: str) -> str:
    """Return the name that a column gets: its own, unless that means something else here."""
    reserved = {HISTORY, HISTORY_AGE, Columns.ItemIndex, *RESERVED} - {Columns.Item}
    name = re.sub(r":(token|float)(_seq)?$", "", name)  # RecBole's headers have types
    plain = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_").lower() or "column"
    return f"{plain}_column" if plain in reserved else plain


def _list(column: Profile) -> Choice:
    lengths = column.values.map(len)
    entries = pd.Series([entry for row in column.values for entry in row], dtype=object)
    if len(entries) and isinstance(entries.iloc[0], float):
        return Choice(None, {}, f"lists of {int(lengths.max())} numbers: a vector, see kind = embedding")
    return _multi_hot(entries, lengths, "lists")


def _multi_hot(entries: pd.Series, lengths: pd.Series, what: str) -> Choice:
    distinct = entries.nunique()
    longest = int(lengths.max())
    options: dict[str, object] = {"max_length": longest} if longest > 16 else {}
    options = {"max_length": 64} if longest > 64 else options
    if distinct > MANY:
        options["max_size"] = MANY
    return Choice("multi-hot", options, f"{what} of up to {longest} of {distinct:,} values")


def _text(column: Profile) -> Choice:
    values = column.values
    if column.name.endswith(":float_seq"):
        return Choice(None, {}, "lists of numbers: a vector, see kind = embedding")
    separator = " " if column.name.endswith(":token_seq") else _separator(values)
    if separator:
        rows = values.map(lambda text: [entry for part in text.split(separator) if (entry := part.strip())])
        choice = _multi_hot(
            pd.Series([entry for row in rows for entry in row]), rows.map(len), f"lists with {separator!r}"
        )
        return choice._replace(separator=separator)
    if readings(values) == ["iso"]:
        return _date(column)._replace(type="datetime")
    if values.iloc[:TRIED].str.match(ADDRESS).mean() > 0.5:
        return Choice(None, {}, "addresses")
    if values.iloc[:TRIED].str.match(VECTOR).mean() > 0.95:
        return Choice(None, {}, "lists of numbers: a vector, see kind = embedding")
    spelt = values.iloc[:TRIED].str.contains(r"[^\W\d_]").mean() > 0.05  # a phone number has no words
    words = spelt * float(values.iloc[:TRIED].map(lambda text: len(tokens(text, 1))).mean())
    spread = column.distinct / len(values)
    if words >= 2.5 and (spread > 0.3 or words >= 6):
        return Choice("text", {}, f"{words:.0f} words on average, {column.distinct:,} different texts")
    if column.distinct > FEW and spread > 0.9:
        return Choice(None, {}, f"{column.distinct:,} values in {len(values):,} rows: nearly every row has its own")
    return _categories(column)


def _categories(column: Profile) -> Choice:
    options: dict[str, object] = {"max_size": MANY} if column.distinct > MANY else {}
    return Choice("categorical", options, f"{column.distinct:,} different values")


def _date(column: Profile) -> Choice:
    return Choice("bucketized", {"buckets": 20}, "a date, as seconds since 1970")


def _number(column: Profile) -> Choice:
    values = column.values.astype("float64")
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Choice(None, {}, "no finite number")
    whole = bool((finite == finite.round()).all())
    low, median, high = float(finite.min()), float(finite.median()), float(finite.max())
    span = f"{low:g} to {high:g}"
    if whole and column.distinct <= FEW:
        return Choice("categorical", {}, f"whole numbers, {column.distinct} different ones")
    if whole and low >= 1000 and high <= 2100 and name_score(column.name, Columns.Timestamp) == 0:
        return Choice("bucketized", {"buckets": 20}, f"looks like years, {span}")
    if whole and _names_something(column, finite):
        own = column.distinct > 0.9 * len(values)
        return Choice(None, {}, "numbers that name something, nearly every row its own") if own else _categories(column)
    if low >= 0 and high > 100 * max(median, 1.0):
        return Choice("continuous", {"log": True}, f"{span} with a long tail (median {median:g})")
    return Choice("continuous", {}, f"numbers, {span}")


def _names_something(column: Profile, numbers: pd.Series) -> bool:
    """Return whether whole numbers are names rather than quantities: by what they are called, or by their length."""
    if CODES & set(parts_of(column.name)) or column.name.lower().endswith("id"):
        return True
    digits = numbers.abs().astype("int64").astype(str).str.len()
    return float(digits.median()) >= 7 and bool((digits == digits.median()).mean() > 0.95)


def _separator(values: pd.Series) -> str | None:
    """Return what stands between the entries of lists, if the values are lists."""
    tried = values.iloc[:TRIED]
    for separator in SEPARATORS:
        having = tried.str.contains(separator, regex=False)
        if having.mean() < (0.02 if separator == "|" else 0.2):
            continue
        entries = pd.Series([part.strip() for text in tried for part in text.split(separator)])
        short = float(entries.str.count(" ").mean()) < 2
        # Entries come again and again in other company; the clauses of a sentence do not.
        if short and entries.nunique() < 0.5 * len(entries) and entries.nunique() <= max(tried.nunique(), FEW):
            return separator
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 30 else text[:29] + "…"
