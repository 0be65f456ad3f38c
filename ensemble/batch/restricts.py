"""Item attributes in the form that managed vector search filters by: restricts, numeric restricts, a crowding tag."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ensemble.serving.search.attributes import Attributes, Numbers, Tags
from workflows.errors import DataError

_WHOLE = 2.0**53
"""Up to here every whole number is a float64."""


class Fields:
    """The attributes of a catalogue's rows, by their type in another engine."""

    def __init__(self, attributes: Attributes) -> None:
        """Take the attributes."""
        self.tags = {name: tags for name, tags in attributes.items() if isinstance(tags, Tags)}
        numbers = {name: attribute for name, attribute in attributes.items() if isinstance(attribute, Numbers)}
        self._numbers = {name: attribute.values for name, attribute in numbers.items()}
        self.number_keys = {name: _number_key(values) for name, values in self._numbers.items()}

    def tags_of(self, row: int) -> dict[str, list[str]]:
        """Return the values of a row's attributes of tags."""
        return {name: tags.values_of(row) for name, tags in self.tags.items()}

    def numbers_of(self, row: int) -> dict[str, float | int | None]:
        """Return a row's numbers, None where it has none."""
        types = {name: int if key == "value_int" else float for name, key in self.number_keys.items()}
        return {
            name: None if np.isnan(values[row]) else types[name](values[row]) for name, values in self._numbers.items()
        }


class Restricts(Fields):
    """The attributes of items as restricts.

    A tag attribute is a namespace with the item's values in its `allow` list, left out for items without any. A number
    is a `value_int` if it is whole in every item, otherwise a `value_double`.
    """

    def __init__(self, attributes: Attributes, crowding: str | None = None) -> None:
        """Take the attributes of a catalogue, and the one whose value is the crowding tag; raise DataError if it is
        none.
        """
        if crowding is not None and crowding not in attributes:
            known = ", ".join(attributes) or "none"
            raise DataError(f"--crowding {crowding}: no attribute of the release; it has {known}")
        super().__init__(attributes)
        self._crowding = crowding

    def members(self, row: int) -> bytes:
        """Return the members of a row's JSON object, each after a comma; raise DataError for two crowding tags."""
        tags, numbers = self.tags_of(row), self.numbers_of(row)
        members: dict[str, Any] = {
            "restricts": [{"namespace": name, "allow": allow} for name, allow in tags.items() if allow],
            "numeric_restricts": [
                {"namespace": name, self.number_keys[name]: number}
                for name, number in numbers.items()
                if number is not None
            ],
        }
        if self._crowding is not None:
            members["crowding_tag"] = self._crowding_tag(tags, numbers, row)
        return encoded({name: value for name, value in members.items() if value})

    def _crowding_tag(self, tags: dict[str, list[str]], numbers: dict[str, Any], row: int) -> str:
        name = str(self._crowding)
        if name in numbers:
            return "" if numbers[name] is None else str(numbers[name])
        if len(tags[name]) > 1:
            shown = ", ".join(tags[name][:4])
            raise DataError(
                f"--crowding {name}: the item in row {row} of the catalogue has several values ({shown}), and a vector "
                "has one crowding tag; choose an attribute of single values"
            )
        return tags[name][0] if tags[name] else ""


def encoded(members: dict[str, Any]) -> bytes:
    """Return the members of a JSON object, each after a comma."""
    return b"," + msgspec.json.encode(members)[1:-1] if members else b""


def _number_key(values: np.ndarray) -> str:
    """Return `value_int` if all numbers, float64 [items], are whole (NaN: missing), otherwise `value_double`."""
    real = values[~np.isnan(values)]
    whole = bool((np.abs(real) <= _WHOLE).all() and (real == np.floor(real)).all())
    return "value_int" if whole else "value_double"
