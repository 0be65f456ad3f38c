"""Filters: the JSON text that a request carries per row, checked, and compiled to what the search takes.

The format and its meaning are in docs/serving.md. Compiled filters are kept, by their text: requests repeat them.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from .attributes import Attribute, Attributes, Numbers, Tags
from .errors import InvalidRequest
from .ids import IdTable
from .masks import ItemMask

MAX_BYTES = 1 << 20
"""Longest text of one filter."""
MAX_VALUES = 1000
"""Longest list of tag values."""
MAX_IDS = 10_000
"""Longest list of item ids."""
CACHE_BYTES = 64 << 20
"""What compiled filters may take; one over a million items takes a megabyte or more."""
_SHOWN = 12
_KEYS = ("allow", "deny", "tags", "ranges", "crowding", "min_score")


class Crowding(NamedTuple):
    """At most `limit` answers of one value of an attribute."""

    attribute: Attribute
    limit: int


class Filter(NamedTuple):
    """What one row asks for."""

    mask: ItemMask | None
    """The items that may be returned; None: every item."""
    crowding: Crowding | None
    min_score: float | None


class _Wrong(ValueError):
    """What is wrong, without the row."""


class Filters:
    """Compiles filters for one catalogue."""

    def __init__(
        self, attributes: Attributes, ids: IdTable, mask: Callable[[np.ndarray], ItemMask], items: int
    ) -> None:
        """Take the items' attributes, their ids, what makes a mask of a bool [items], and the number of items."""
        self._attributes, self._ids, self._mask, self._items = attributes, ids, mask, items
        self._cache: OrderedDict[str, Filter] = OrderedDict()
        self._held, self._lock = 0, Lock()

    def __call__(self, text: str, row: int) -> Filter:
        """Return the filter of a row; raise InvalidRequest naming the row, the key and what was expected."""
        with self._lock:
            if text in self._cache:
                self._cache.move_to_end(text)
                return self._cache[text]
        try:
            made = self._compile(_parsed(text))
        except _Wrong as error:
            raise InvalidRequest(f"column 'filter', row {row}: {error}") from None
        with self._lock:
            self._keep(text, made)
        return made

    def _keep(self, text: str, made: Filter) -> None:
        if text in self._cache:
            return
        self._cache[text] = made
        self._held += _size(text, made)
        while self._held > CACHE_BYTES:
            self._held -= _size(*self._cache.popitem(last=False))

    def _compile(self, document: Mapping[str, Any]) -> Filter:
        _check_keys("filter", document, _KEYS)
        bits: np.ndarray | None = None
        for key, narrow in {
            "allow": self._allow,
            "deny": self._deny,
            "tags": self._tags,
            "ranges": self._ranges,
        }.items():
            if key in document:
                bits = narrow(document[key], np.ones(self._items, dtype=bool) if bits is None else bits)
        crowding = self._crowding(document["crowding"]) if "crowding" in document else None
        min_score = _number("min_score", document["min_score"]) if "min_score" in document else None
        if bits is None:
            return Filter(None, crowding, min_score)
        mask = self._mask(bits)
        mask.wanted = {key: document[key] for key in ("allow", "deny", "tags", "ranges") if key in document}
        return Filter(mask, crowding, min_score)

    def _allow(self, value: Any, bits: np.ndarray) -> np.ndarray:
        kept = np.zeros(self._items, dtype=bool)
        kept[self._rows("allow", value)] = True
        return bits & kept

    def _deny(self, value: Any, bits: np.ndarray) -> np.ndarray:
        bits[self._rows("deny", value)] = False
        return bits

    def _rows(self, key: str, value: Any) -> np.ndarray:
        """Return the rows of a list of item ids; an id that the catalogue does not have counts for nothing."""
        kind: Any = str if self._ids.is_string else int
        wanted = "strings" if kind is str else "64-bit integers"
        if not isinstance(value, list) or len(value) > MAX_IDS:
            raise _Wrong(f"'{key}': expected a list of at most {MAX_IDS} item ids, got {_shown(value)}")
        for one in value:
            if not isinstance(one, kind) or isinstance(one, bool) or (kind is int and not -(2**63) <= one < 2**63):
                raise _Wrong(f"'{key}': got {_shown(one)}, expected item ids, which are {wanted}")
        rows = self._ids.rows_of(np.array(value, dtype=object if kind is str else np.int64))
        return rows[rows >= 0]

    def _tags(self, value: Any, bits: np.ndarray) -> np.ndarray:
        for name, tests in _object("tags", value).items():
            place = f"'tags', '{_name(name)}'"
            attribute = self._attribute(place, name, Tags)
            _check_keys(place, _object(place, tests), ("any", "all", "none"))
            for test, values in tests.items():
                bits = _narrowed(
                    bits, test, [attribute.items_of(one) for one in _values(place, test, values, attribute)]
                )
        return bits

    def _ranges(self, value: Any, bits: np.ndarray) -> np.ndarray:
        for name, limits in _object("ranges", value).items():
            place = f"'ranges', '{_name(name)}'"
            numbers = self._attribute(place, name, Numbers).values
            _check_keys(place, _object(place, limits), ("min", "max"))
            ends = {key: _number(f"{place}, '{key}'", one) for key, one in limits.items()}
            low, high = ends.get("min", -math.inf), ends.get("max", math.inf)
            if not ends or low > high:
                raise _Wrong(f"{place}: got {_shown(limits)}, expected 'min', 'max' or both, min <= max")
            bits &= (numbers >= low) & (numbers <= high)  # a missing number is NaN, and in no range
        return bits

    def _crowding(self, value: Any) -> Crowding:
        document = _object("crowding", value)
        _check_keys("'crowding'", document, ("attribute", "limit"))
        name, limit = document.get("attribute"), document.get("limit")
        if not isinstance(name, str) or not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            expected = '{"attribute": NAME, "limit": a whole number >= 1}'
            raise _Wrong(f"'crowding': got {_shown(value)}, expected {expected}")
        return Crowding(self._attribute("'crowding'", name, (Tags, Numbers)), min(limit, self._items))

    def _attribute(self, place: str, name: str, kind: Any) -> Any:
        found = self._attributes.get(name)
        if isinstance(found, kind):
            return found
        fit = [one for one, attribute in self._attributes.items() if isinstance(attribute, kind)]
        what = {Tags: "an attribute of tags", Numbers: "a number"}.get(kind, "an attribute")
        known = f"has {_listed(fit)}" if fit else "has none"
        got = "no attribute of the release" if found is None else f"not {what}"
        raise _Wrong(f"{place}: {got}; expected {what}, of which the release {known}")


def _narrowed(bits: np.ndarray, test: str, members: list[np.ndarray]) -> np.ndarray:
    """Keep the items that pass `any`, `all` or `none` of the values whose items are given."""
    if test == "none":
        for items in members:
            bits[items] = False
        return bits
    for items in [np.concatenate(members)] if test == "any" else members:
        kept = np.zeros(len(bits), dtype=bool)
        kept[items] = True
        bits = bits & kept
    return bits


def _parsed(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_BYTES:
        raise _Wrong(f"{len(text)} characters, expected at most {MAX_BYTES}")
    try:
        document = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except _Wrong:
        raise
    except (ValueError, RecursionError) as error:
        raise _Wrong(f'not JSON ({error}): {_shown(text)}; expected an object such as {{"deny": []}}') from None
    return _object("filter", document)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Wrong(f"a key stands twice among {_listed([key for key, _ in pairs])}")
    return found


def _no_constant(name: str) -> float:
    raise _Wrong(f"got {name}, expected finite numbers")


def _object(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{place}: got {_shown(value)}, expected an object")
    return value


def _check_keys(place: str, document: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in document:
        if key not in known:
            raise _Wrong(f"{place}: unknown key {_shown(key)}; the keys are {', '.join(known)}")


def _number(place: str, value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    raise _Wrong(f"{place}: got {_shown(value)}, expected a finite number")


def _values(place: str, test: str, values: Any, attribute: Tags) -> list[str]:
    """Return the tag values of a test; raise _Wrong where the attribute does not have one: it may be misspelt."""
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_VALUES:
        raise _Wrong(f"{place}, '{test}': got {_shown(values)}, expected a list of 1 to {MAX_VALUES} values")
    made = [_tag(one) for one in values]
    for one, given in zip(made, values, strict=True):
        if one is None or one not in attribute:
            near = get_close_matches(one or "", attribute.values[:10_000], 3) or attribute.values
            raise _Wrong(f"{place}, '{test}': no item has {_shown(given)}; the values are such as {_listed(near)}")
    return [one for one in made if one is not None]


def _tag(value: Any) -> str | None:
    """Return a value as `ensemble.attributes` writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _name(name: str) -> str:
    return _shown(name)[1:-1]


def _listed(names: list[str]) -> str:
    shown = ", ".join(_shown(one) for one in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _size(text: str, made: Filter) -> int:
    return 4 * len(text) + 1000 + (0 if made.mask is None else made.mask.size)
