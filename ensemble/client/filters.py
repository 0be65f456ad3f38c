"""Typed filters, and the JSON text that a request carries for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

ItemId = Union[int, str]


@dataclass(frozen=True)
class TagTest:
    """Conditions on an item's values of one attribute; without any, every item passes."""

    any: Sequence[str] = ()
    """At least one of these."""
    all: Sequence[str] = ()
    """Every one of these."""
    none: Sequence[str] = ()
    """None of these."""

    def document(self) -> dict[str, list[str]]:
        """Return the conditions that are set."""
        return {name: list(values) for name, values in vars(self).items() if values}


@dataclass(frozen=True)
class Range:
    """Bounds of a numeric attribute, both included; an item without the number never passes."""

    min: float | None = None
    max: float | None = None

    def document(self) -> dict[str, float]:
        """Return the bounds that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Crowding:
    """At most `limit` answers of one value of an attribute; see docs/serving.md for items with several values."""

    attribute: str
    limit: int


@dataclass(frozen=True)
class Filter:
    """Restricts the answer to one row. An item must pass every condition."""

    allow: Sequence[ItemId] | None = None
    """Only these items; None: every item."""
    deny: Sequence[ItemId] = ()
    """Not these."""
    tags: Mapping[str, TagTest] = field(default_factory=dict)
    """By attribute."""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """By attribute."""
    crowding: Crowding | None = None
    min_score: float | None = None
    """Only items with at least this score."""

    def document(self) -> dict[str, Any]:
        """Return the conditions that are set, as JSON values."""
        document = {
            "allow": None if self.allow is None else _plain(self.allow),
            "deny": _plain(self.deny) or None,
            "tags": {name: stated for name, test in self.tags.items() if (stated := test.document())} or None,
            "ranges": {name: bounds for name, test in self.ranges.items() if (bounds := test.document())} or None,
            "crowding": vars(self.crowding) if self.crowding else None,
            "min_score": self.min_score,
        }
        return {key: value for key, value in document.items() if value is not None}

    def text(self) -> str:
        """Return the filter as a request carries it; "" if it lets everything through.

        Equal filters have equal texts, so that the server compiles each of them once.
        """
        document = self.document()
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False) if document else ""


def _plain(ids: Sequence[Any]) -> list[ItemId]:
    """Return the ids as Python integers or strings, which JSON can hold."""
    return [item_id.item() if hasattr(item_id, "item") else item_id for item_id in ids]
