"""Filters: the JSON text that a request carries per row, checked and compiled for the search.

docs/serving.md defines the format. Compiled filters are cached by their text, since requests repeat them. A filter's
cost grows with its text, its distinct values and the items that have them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from operator import itemgetter
from threading import Lock
from typing import Any, NamedTuple, Union

import numpy as np

from ..errors import InvalidRequest
from ..files.lookup import IdTable
from ..files.parameters import shown
from .attributes import Attribute, Attributes, Numbers, Tags
from .budget import Budget
from .filter_text import Wrong, a_list, a_number, an_object, check_keys, listed, name_of, parsed
from .masks import ItemMask, packed, unpacked

MAX_VALUES = 1000
"""Longest list of tag values."""
MAX_IDS = 10_000
"""Longest list of item ids."""
CACHE_BYTES = 64 << 20
"""What compiled filters may take; one over a million items takes an eighth of a megabyte or more."""
_TEXT_NS = 40.0
"""Nanoseconds of reading, per character."""
_ITEM_NS = 2.0
"""Nanoseconds of compiling, per item of the catalogue and part of a filter: a list of ids, a test of tags, a range."""
_VISIT_NS = 20.0
"""Nanoseconds per item that has a value which is not kept as a bitmap."""
_LETTERS, _SCANNED, _COMPARED = 64, 10_000, 200
"""Of a value that no item has: up to what length it is compared, of how many values those are picked that might be
meant, and how many these are at most."""
_KEYS = ("allow", "deny", "tags", "ranges", "crowding", "min_score")
_NARROWS = ("allow", "deny", "tags", "ranges")


class Crowding(NamedTuple):
    """At most `limit` answers of one value of an attribute."""

    attribute: Attribute
    limit: int


class Filter(NamedTuple):
    """A compiled filter of one row."""

    mask: ItemMask | None
    """The items that may be returned; None: every item."""
    crowding: Crowding | None
    min_score: float | None


_Kept = Union[Filter, str]
"""A filter, or what is wrong with it."""


class Filters:
    """Compiles filters for one catalogue."""

    def __init__(
        self, attributes: Attributes, ids: IdTable, mask: Callable[[np.ndarray], ItemMask], items: int
    ) -> None:
        """Take the items' attributes, their ids, a function from bool [items] to a mask, and the number of items."""
        self._attributes, self._ids, self._mask, self._items = attributes, ids, mask, items
        self._cache: OrderedDict[str, _Kept] = OrderedDict()
        self._held, self._lock = 0, Lock()

    def of_rows(self, texts: Sequence[str], budget: Budget | None = None) -> list[Filter | None]:
        """Return each row's filter, None for ""; equal texts are compiled once.

        Raises
        ------
        InvalidRequest
            A filter is wrong; names the row.
        TooMuch
            Reading and compiling them would exceed the `budget`.
        """
        firsts = {text: row for row, text in reversed([*enumerate(texts)]) if text}
        if budget is not None:
            lengths = np.zeros(len(texts), dtype=np.int64)
            for text, row in firsts.items():
                lengths[row] = len(text) * (text not in self._cache)
            budget.spend_each(lengths, _TEXT_NS)
        budget = budget or Budget()
        ordered = sorted(firsts.items(), key=itemgetter(1))
        # All of them are paid for before the first is compiled.
        read = [(text, row, self._read(text, row, budget)) for text, row in ordered]
        compiled = {text: self._filter(text, row, content, budget) for text, row, content in read}
        return [compiled.get(text) for text in texts]

    def _read(self, text: str, row: int, budget: Budget) -> _Kept | dict[str, Any]:
        """Return the cached filter of a text, or its error, or else the document, paid for from the budget."""
        cached = self._cached(text)
        if cached is not None:
            return cached
        try:
            document = parsed(text)
        except Wrong as error:
            return str(error)
        budget.spend(row, _ITEM_NS * self._items * _parts(document))
        return document

    def _filter(self, text: str, row: int, content: _Kept | dict[str, Any], budget: Budget) -> Filter:
        if isinstance(content, dict):
            try:
                content = self._compile(content, row, budget)
            except Wrong as error:
                content = str(error)
        self._keep(text, content)
        if isinstance(content, str):
            raise InvalidRequest(f"column 'filter', row {row}: {content}")
        return content

    def _cached(self, text: str) -> _Kept | None:
        with self._lock:
            if text in self._cache:
                self._cache.move_to_end(text)
            return self._cache.get(text)

    def _keep(self, text: str, compiled: _Kept) -> None:
        with self._lock:
            if text in self._cache:
                return
            self._cache[text] = compiled
            self._held += _size(text, compiled)
            while self._held > CACHE_BYTES:
                self._held -= _size(*self._cache.popitem(last=False))

    def _compile(self, document: Mapping[str, Any], row: int, budget: Budget) -> Filter:
        check_keys("filter", document, _KEYS)
        crowding = self._crowding(document["crowding"]) if "crowding" in document else None
        min_score = a_number("min_score", document["min_score"]) if "min_score" in document else None
        bits: np.ndarray | None = None
        narrowing: dict[str, Callable[[Any], Iterator[np.ndarray]]] = {
            "allow": self._allow,
            "deny": self._deny,
            "tags": partial(self._tags, partial(budget.spend, row)),
            "ranges": self._ranges,
        }
        for key, narrowed in narrowing.items():
            for part in narrowed(document[key]) if key in document else ():
                bits = part if bits is None else np.bitwise_and(bits, part, out=bits)
        if bits is None:
            return Filter(None, crowding, min_score)
        mask = self._mask(unpacked(bits, self._items))
        mask.wanted = {key: document[key] for key in _NARROWS if key in document}
        return Filter(mask, crowding, min_score)

    def _allow(self, value: Any) -> Iterator[np.ndarray]:
        yield packed(self._rows("allow", value), self._items)

    def _deny(self, value: Any) -> Iterator[np.ndarray]:
        yield ~packed(self._rows("deny", value), self._items)

    def _rows(self, key: str, value: Any) -> np.ndarray:
        """Return the rows of a list of item ids; unknown ids have no effect."""
        kind: Any = str if self._ids.is_string else int
        ids = a_list(f"'{key}'", value, 0, MAX_IDS, "item ids")
        if {*map(type, ids)} <= {kind}:  # a truth value's type is another
            try:
                rows = self._ids.rows_of(_array(ids, kind))
                return rows[rows >= 0]
            except OverflowError:
                pass
        wrong = next(id_ for id_ in ids if type(id_) is not kind or (kind is int and not -(2**63) <= id_ < 2**63))
        expected = "strings" if kind is str else "64-bit integers"
        raise Wrong(f"'{key}': got {shown(wrong)}, expected item ids, which are {expected}")

    def _tags(self, charge: Callable[[float], None], value: Any) -> Iterator[np.ndarray]:
        for name, tests in an_object("tags", value).items():
            place = f"'tags', '{name_of(name)}'"
            attribute = self._attribute(place, name, Tags)
            check_keys(place, an_object(place, tests), ("any", "all", "none"))
            for test, values in tests.items():
                codes = _codes(f"{place}, '{test}'", values, attribute)
                charge(_VISIT_NS * attribute.visited(codes))
                if test == "all":
                    yield attribute.all_of(codes)
                else:
                    some = attribute.any_of(codes)
                    yield some if test == "any" else ~some

    def _ranges(self, value: Any) -> Iterator[np.ndarray]:
        for name, limits in an_object("ranges", value).items():
            place = f"'ranges', '{name_of(name)}'"
            numbers = self._attribute(place, name, Numbers)
            check_keys(place, an_object(place, limits), ("min", "max"))
            ends = {key: a_number(f"{place}, '{key}'", limit) for key, limit in limits.items()}
            low, high = ends.get("min", -math.inf), ends.get("max", math.inf)
            if not ends or low > high:
                raise Wrong(f"{place}: got {shown(limits)}, expected 'min', 'max' or both, min <= max")
            yield np.packbits(numbers.between(low, high), bitorder="little")

    def _crowding(self, value: Any) -> Crowding:
        document = an_object("crowding", value)
        check_keys("'crowding'", document, ("attribute", "limit"))
        name, limit = document.get("attribute"), document.get("limit")
        if not isinstance(name, str) or not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            expected = '{"attribute": NAME, "limit": a whole number >= 1}'
            raise Wrong(f"'crowding': got {shown(value)}, expected {expected}")
        return Crowding(self._attribute("'crowding'", name, (Tags, Numbers)), min(limit, self._items))

    def _attribute(self, place: str, name: str, kind: Any) -> Any:
        attribute = self._attributes.get(name)
        if isinstance(attribute, kind):
            return attribute
        fit = [known for known, values in self._attributes.items() if isinstance(values, kind)]
        what = {Tags: "an attribute of tags", Numbers: "a number"}.get(kind, "an attribute")
        actual = "no attribute of the release" if attribute is None else f"not {what}"
        raise Wrong(f"{place}: {actual}; expected {what}; the release has {listed(fit) if fit else 'none'}")


def _parts(document: Mapping[str, Any]) -> int:
    """Return the maximum number of arrays over all items that a filter takes to compile."""
    tags, ranges = (value if isinstance(value, dict) else {} for value in map(document.get, ("tags", "ranges")))
    tests = sum(len(test) for test in tags.values() if isinstance(test, dict))
    return sum(key in document for key in ("allow", "deny")) + tests + len(ranges)


def _array(ids: list[Any], kind: type) -> np.ndarray:
    """Return the ids, without duplicates if they are text; raise OverflowError for an integer beyond 64 bits."""
    if kind is int:
        return np.array(ids, dtype=np.int64)
    return np.array([*dict.fromkeys(ids)], dtype=object)


def _codes(place: str, values: Any, attribute: Tags) -> np.ndarray:
    """Return the distinct codes of a test's values; raise Wrong for one that no item has, such as a misspelling."""
    stated = a_list(place, values, 1, MAX_VALUES, "values")
    tags = stated if {*map(type, stated)} == {str} else [_tag(value) for value in stated]
    try:
        return attribute.codes_of(tags)
    except KeyError as error:
        missing = error.args[0]
        near = _near(missing or "", attribute.values) or attribute.values
        actual = shown(stated[tags.index(missing)])
        raise Wrong(f"{place}: no item has {actual}; the values are such as {listed(near)}") from None


def _near(value: str, values: Sequence[str]) -> list[str]:
    """Return values that are spelt similarly, compared with some of those of about the same length."""
    if len(value) > _LETTERS:
        return []
    alike = (known for known in values[:_SCANNED] if abs(len(known) - len(value)) <= 2)
    first = value[:1].lower()
    ranked = sorted(alike, key=lambda known: known[:1].lower() != first)
    return get_close_matches(value, ranked[:_COMPARED], 3)


def _tag(value: Any) -> str | None:
    """Return a value in the spelling of `ensemble.release.attributes`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def _size(text: str, compiled: _Kept) -> int:
    """Estimate the bytes of a cached filter."""
    if isinstance(compiled, str):
        return 2 * len(text) + 1000
    return 4 * len(text) + 1000 + (0 if compiled.mask is None else compiled.mask.size)
