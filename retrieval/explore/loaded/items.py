"""The items of a release, in words: titles, tags, numbers, and where an id stands."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ensemble.serving.files.item_columns import read_columns
from ensemble.serving.query.transform import Column
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.attributes import Numbers, Tags
from workflows.columns import Columns

COMMON = 40
"""So many values of an attribute are offered to click on."""
_IDS = ("_id", "_uri", "_url")
"""What ends the names of columns that say nothing to a reader."""


class Shown(NamedTuple):
    """An item as the pages write it."""

    id: Any
    title: str
    tags: str


class Items:
    """The catalogue."""

    def __init__(self, retriever: Retriever) -> None:
        self._catalogue = retriever.catalogue
        self.ids: list[Any] = self._catalogue.rows.ids.tolist()
        self._columns = dict(read_columns(retriever.release, len(self.ids)))
        self.titles = self._titles()
        self._tags = next(iter(self.tags.values()), None)
        self.vectors, self.live = self._catalogue.rows.vectors, self._catalogue.rows.live

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item: Any) -> int:
        """Return the row of an item; -1 where there is none of that id."""
        ids = np.array([item], dtype=self._catalogue.rows.ids.dtype)
        return int(self._catalogue.ids.rows_of(ids)[0])

    def row_of_text(self, text: str) -> int:
        """Return the row of an item whose id is written so; -1 where there is none."""
        if self._catalogue.ids.is_string:
            return self.row(text)
        try:
            number = int(text)
        except ValueError:
            return -1
        return self.row(number) if -(2**63) <= number < 2**63 else -1

    def shown(self, row: int) -> Shown:
        """Return an item in words."""
        tags = self._tags.values_of(row) if self._tags else []
        return Shown(self.ids[row], self.titles[row], ", ".join(tags))

    def facts(self, row: int) -> dict[str, Any]:
        """Return the raw columns of an item."""
        return {name: cell(column, row) for name, column in self._columns.items() if name != Columns.Title}

    @property
    def tags(self) -> dict[str, Tags]:
        """Return the attributes that hold tags, by name, ids last; a title is one to a filter, but groups nothing."""
        attributes = sorted(self._catalogue.rows.attributes.items(), key=lambda entry: entry[0].endswith(_IDS))
        return {name: each for name, each in attributes if isinstance(each, Tags) and name != Columns.Title}

    @property
    def numbers(self) -> dict[str, Numbers]:
        """Return the attributes that are numbers, by name."""
        return {name: each for name, each in self._catalogue.rows.attributes.items() if isinstance(each, Numbers)}

    @cached_property
    def bounds(self) -> dict[str, tuple[float, float, str]]:
        """Return the least and the largest number of each attribute, and the step between two: `1` or `any`."""
        finite = {name: each.values[np.isfinite(each.values)] for name, each in self.numbers.items()}
        return {
            name: (float(values.min()), float(values.max()), "1" if (values == values.round()).all() else "any")
            for name, values in finite.items()
            if len(values)
        }

    @cached_property
    def common_tags(self) -> dict[str, list[str]]:
        """Return the most frequent values of each attribute of tags, in their own order."""
        frequent_of = {}
        for name, tags in self.tags.items():
            counts = tags.counts_of(np.arange(len(tags.values)))
            frequent = np.argsort(-counts, kind="stable")[:COMMON]
            frequent_of[name] = sorted((tags.values[code] for code in frequent.tolist()), key=str.casefold)
        return frequent_of

    def find(self, text: str, most: int = 30) -> list[int]:
        """Return the rows of items by id or part of a title, those whose title begins so first."""
        wanted = text.strip().casefold()
        rows = [
            row for row, title in enumerate(self._folded) if wanted in title or str(self.ids[row]).casefold() == wanted
        ]
        rows.sort(key=lambda row: (str(self.ids[row]).casefold() != wanted, not self._folded[row].startswith(wanted)))
        return rows[:most]

    @cached_property
    def _folded(self) -> list[str]:
        return [title.casefold() for title in self.titles]

    def _titles(self) -> list[str]:
        if Columns.Title not in self._columns:
            return [str(item) for item in self.ids]
        cells = zip(self._cells(Columns.Title), self.ids, self._cells("year"), strict=True)
        return [titled(*row) for row in cells]

    def _cells(self, name: str) -> list[Any]:
        """Return the values of a column, None where there is none."""
        column = self._columns.get(name)
        return [None if column is None else cell(column, row) for row in range(len(self.ids))]


def cell(column: Column, row: int) -> Any:
    """Return the value of a row: None where it is missing, a list of a list column."""
    values, missing = column.values, column.missing
    if column.offsets is not None:
        entries = range(int(column.offsets[row]), int(column.offsets[row + 1]))
        return [_plain(values[entry]) for entry in entries if missing is None or not missing[entry]]
    return None if missing is not None and missing[row] else _plain(values[row])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def titled(title: Any, item: Any, year: Any) -> str:
    """Return an item in a line: its title, else its id, with its year if that is not in the title."""
    text = str(item) if title is None or title != title else str(title)
    if isinstance(year, (int, float)) and year == year and f"({int(year)})" not in text:
        return f"{text} ({int(year)})"
    return text
