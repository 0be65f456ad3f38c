"""Attributes of items that a request may filter by: tags and numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np

from ..errors import InvalidRelease
from ..files.arrays import is_csr, read_values, take_ranges
from ..files.parameters import Fields
from ..files.release import Sealed
from ..files.schema import MOST_ROWS, Schema, choice, integer, list_of, of_names, taken
from .masks import packed

FILE = "items/attributes.json"
_SCHEMA: Schema = {
    "format": integer(1, 1),
    "items": integer(0, MOST_ROWS),
    "attributes": list_of({"name": Fields.text, "kind": choice("number", "tags")}),
    "left_out": of_names(Fields.text),
}
BITMAP_BYTES = 16 << 20
"""What the bitmaps of one attribute's values may take."""
_FEW = 1 << 16
_POPULAR = 32
"""A value that one item of so many has is kept as a bitmap: to combine these takes less than to visit its items."""


class Groups(NamedTuple):
    """The groups of each item, in CSR form."""

    rows: np.ndarray
    """int64 [items + 1]."""
    codes: np.ndarray
    """int32 [entries]: the groups of item i are `codes[rows[i]:rows[i + 1]]`."""


class Tags:
    """An attribute with any number of values per item."""

    def __init__(self, values: np.ndarray, groups: Groups, bounds: np.ndarray, members: np.ndarray) -> None:
        """Take the values, `str` objects [v], and who has which: by item (`groups`), and by value, int32 [entries]: the
        items with value c are `members[bounds[c]:bounds[c + 1]]`.
        """
        self.values: list[str] = values.tolist()
        self.groups = groups
        self._codes = {value: code for code, value in enumerate(self.values)}
        self._bounds, self._members = bounds, members
        self._items = len(groups.rows) - 1
        self._bitmaps: OrderedDict[int, np.ndarray] = OrderedDict()

    def __contains__(self, value: str) -> bool:
        return value in self._codes

    def codes_of(self, values: Sequence[str]) -> np.ndarray:
        """Return the codes of values, without duplicates, int64 [m]; raise KeyError with the first unknown one."""
        codes = [*map(self._codes.get, dict.fromkeys(values))]
        if None in codes:
            raise KeyError(next(value for value in values if value not in self._codes))
        return np.array(codes, dtype=np.int64)

    def counts_of(self, codes: np.ndarray) -> np.ndarray:
        """Return how many items have each value, int64 [m]."""
        return self._bounds[codes + 1] - self._bounds[codes]

    def visited(self, codes: np.ndarray) -> int:
        """Return how many items must be visited for the values that are not kept as bitmaps."""
        return int(self.counts_of(self._divided(codes)[1]).sum())

    def any_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the items with at least one of the distinct values, as bits (`masks.packed`)."""
        popular, rare = self._divided(codes)
        bits = np.zeros(self._items, dtype=bool)
        if int(self.counts_of(rare).sum()) <= _FEW:
            bits[self._members[take_ranges(self._bounds, rare)[0]]] = True
        else:  # without an array of all of them
            for code in rare.tolist():
                bits[self.members(code)] = True
        bits_of_any = np.packbits(bits, bitorder="little")
        for code in popular.tolist():
            bits_of_any |= self._bitmap(code)
        return bits_of_any

    def all_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the items with all of the distinct values, as bits, searched among those with the rarest value."""
        popular, rare = self._divided(codes)
        if not len(rare):
            bits = np.full(-(-self._items // 8), 255, dtype=np.uint8)
        else:
            items = self.members(int(rare[self.counts_of(rare).argmin()])).astype(np.int64)
            positions, bounds = take_ranges(self.groups.rows, items)
            required = np.zeros(len(self.values), dtype=np.int64)
            required[rare] = 1
            had = np.concatenate([[0], required[self.groups.codes[positions]].cumsum()])
            bits = packed(items[had[bounds[1:]] - had[bounds[:-1]] == len(rare)], self._items)
        for code in popular.tolist():
            bits &= self._bitmap(code)
        return bits

    def _divided(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes with bitmaps, and the others."""
        popular = self.counts_of(codes) * _POPULAR > self._items
        return codes[popular], codes[~popular]

    def _bitmap(self, code: int) -> np.ndarray:
        """Return the items with a value, as bits, from a cache of limited size."""
        bits = self._bitmaps.get(code)
        if bits is not None:
            self._bitmaps.move_to_end(code)
            return bits
        bits = self._bitmaps[code] = packed(self.members(code), self._items)
        while len(self._bitmaps) > 1 and len(self._bitmaps) * len(bits) > BITMAP_BYTES:
            self._bitmaps.popitem(last=False)
        return bits

    def values_of(self, row: int) -> list[str]:
        """Return the values that an item has."""
        return [self.values[code] for code in self.groups.codes[self.groups.rows[row] : self.groups.rows[row + 1]]]

    def members(self, code: int) -> np.ndarray:
        """Return the rows of the items in a group, int32 [m]."""
        return self._members[self._bounds[code] : self._bounds[code + 1]]

    def extended(self, more: Tags) -> Tags:
        """Return the attribute of these items followed by those of `more`; neither is changed."""
        items = len(self.groups.rows) - 1
        new = [value for value in more.values if value not in self._codes]
        values = np.array([*self.values, *new], dtype=object)
        codes = {**self._codes, **{value: code for code, value in enumerate(new, start=len(self.values))}}
        renamed = np.array([codes[value] for value in more.values], dtype=np.int32)[more.groups.codes]
        rows = np.concatenate([self.groups.rows, self.groups.rows[-1] + more.groups.rows[1:]])
        groups = Groups(rows, np.concatenate([self.groups.codes, renamed]))
        bounds = np.append(self._bounds, np.full(len(new), self._bounds[-1]))
        order = np.argsort(renamed, kind="stable")
        later = np.repeat(np.arange(items, len(rows) - 1), np.diff(more.groups.rows))[order]
        members = np.insert(self._members, bounds[renamed[order] + 1], later.astype(self._members.dtype))
        counts = np.concatenate([[0], np.cumsum(np.bincount(renamed, minlength=len(values)))])
        return Tags(values, groups, bounds + counts, members)


class Numbers:
    """A numeric attribute, NaN for an item without one."""

    def __init__(self, values: np.ndarray) -> None:
        """Take one number per item, float64 [items]."""
        self.values = values
        self._groups: Groups | None = None
        self._order = self._bounds = np.zeros(0, dtype=np.int64)

    def between(self, low: float, high: float) -> np.ndarray:
        """Return the items with a number from `low` to `high`, bool [items]; NaN is in no range."""
        inside = self.values >= low
        inside &= self.values <= high
        return inside

    @property
    def groups(self) -> Groups:
        """Return the groups of items with equal numbers; an item without a number is in none."""
        if self._groups is None:
            real = ~np.isnan(self.values)
            _, codes = np.unique(self.values[real], return_inverse=True)
            rows = np.concatenate([[0], np.cumsum(real)]).astype(np.int64)
            self._order = np.flatnonzero(real)[codes.argsort(kind="stable")].astype(np.int32)
            self._bounds = np.concatenate([[0], np.bincount(codes).cumsum()]).astype(np.int64)
            self._groups = Groups(rows, codes.astype(np.int32))
        return self._groups

    def members(self, code: int) -> np.ndarray:
        """Return the rows of the items in a group, int32 [m]."""
        assert self._groups is not None
        return self._order[self._bounds[code] : self._bounds[code + 1]]

    def extended(self, more: Numbers) -> Numbers:
        """Return the attribute of these items followed by those of `more`."""
        return Numbers(np.concatenate([self.values, more.values]))


Attribute = Union[Tags, Numbers]
Attributes = dict[str, Attribute]


def extended(first: Attributes, more: Attributes) -> Attributes:
    """Return the attributes of the items of `first` followed by those of `more`.

    Raises InvalidRelease: `more` has other attributes, or of another kind.
    """
    joined: Attributes = {}
    for name, attribute in first.items():
        added = more.get(name)
        if type(added) is not type(attribute):
            raise InvalidRelease(f"attribute '{name}': not among the new items', or of another kind")
        joinable: Any = attribute
        joined[name] = joinable.extended(added)
    return joined


def read_attributes(release: Sealed, items: int) -> Attributes:
    """Read the attributes of a release with `items` items; raise InvalidRelease if the arrays do not fit."""
    entries = enumerate(stated_attributes(release, items))
    return {name: _read(release, kind, f"items/attributes/{number}", items) for number, (name, kind) in entries}


def stated_attributes(release: Sealed, items: int) -> list[tuple[str, str]]:
    """Return the name and kind, `number` or `tags`, of each attribute of a release with `items` items.

    Raises InvalidRelease: `attributes.json` is malformed, or of another number of items; names the field.
    """
    fields = release.fields(FILE)
    stated = taken(fields, _SCHEMA)
    if stated["items"] != items:
        raise fields.error(f"items is {stated['items']}, there are {items}; release it again")
    attributes = [(attribute["name"], attribute["kind"]) for attribute in stated["attributes"]]
    if len(dict(attributes)) < len(attributes):
        raise fields.error("attributes have a name twice")
    return attributes


def _read(release: Sealed, kind: str, stem: str, items: int) -> Attribute:
    if kind == "number":
        numbers = release.array(f"{stem}.npy", np.float64)
        if len(numbers) != items:
            raise InvalidRelease(f"{release.path / stem}.npy: {numbers.shape}, expected ({items},)")
        return Numbers(numbers)
    values = read_values(release, stem, "string")
    rows, bounds = (release.array(f"{stem}.{part}.npy", np.int64) for part in ("rows", "values"))
    codes, members = (release.array(f"{stem}.{part}.npy", np.int32) for part in ("codes", "items"))
    if not (_refers(rows, items, codes, len(values)) and _refers(bounds, len(values), members, items)):
        raise InvalidRelease(f"{release.path / stem}: the arrays of the attribute do not fit each other")
    if len(set(values.tolist())) < len(values):
        raise InvalidRelease(f"{release.path / stem}.utf8.npy: has a value twice")
    if not _is_transposed(rows, codes, bounds, members):
        raise InvalidRelease(f"{release.path / stem}.items.npy: not the items that have each value by {stem}.codes.npy")
    return Tags(values, Groups(rows, codes), bounds, members)


def _is_transposed(rows: np.ndarray, codes: np.ndarray, bounds: np.ndarray, members: np.ndarray) -> bool:
    """Return whether two CSR matrices are each other's transpose, with every pair once and in ascending order."""
    if len(codes) != len(members):
        return False
    by_item = np.repeat(np.arange(len(rows) - 1), np.diff(rows)) * len(bounds) + codes
    by_value = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)) * np.int64(len(rows)) + members
    if (np.diff(by_item) <= 0).any() or (np.diff(by_value) <= 0).any():
        return False
    value, item = np.divmod(by_value, len(rows))
    return bool((np.sort(item * len(bounds) + value) == by_item).all())


def _refers(bounds: np.ndarray, size: int, codes: np.ndarray, highest: int) -> bool:
    """Return whether `bounds` cuts `codes` into `size` ranges, with every code from 0 to below `highest`."""
    if not is_csr(bounds, size, len(codes)):
        return False
    return not len(codes) or (int(codes.min()) >= 0 and int(codes.max()) < highest)
