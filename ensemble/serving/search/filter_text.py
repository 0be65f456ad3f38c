"""Reads and checks the JSON text of a filter, as far as that does not depend on a catalogue.

The cost is bounded by the text's length: values are checked all at once, and long ones never shown in full.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..files.parameters import shown

MAX_BYTES = 1 << 20
"""Longest text of one filter."""
_MOST_OBJECTS = 1000
"""JSON objects in one filter; a filter of every attribute that a catalogue has needs one for each."""
_SHOWN = 12


class Wrong(ValueError):
    """The reason why a filter is wrong, without the row."""


def parsed(text: str) -> dict[str, Any]:
    """Return the object in a filter's text; raise Wrong if it is not one, or has a duplicate key."""
    if len(text) > MAX_BYTES:
        raise Wrong(f"{len(text)} characters, expected at most {MAX_BYTES}")
    try:
        document = json.loads(text, object_pairs_hook=_once(), parse_constant=_no_constant)
    except Wrong:
        raise
    except (ValueError, RecursionError) as error:
        raise Wrong(f'not JSON ({error}): {shown(text)}; expected an object such as {{"deny": []}}') from None
    return an_object("filter", document)


def _once() -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return a hook that builds objects from pairs, and refuses duplicate keys and too many objects."""
    objects = 0

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > _MOST_OBJECTS:
            raise Wrong(f"more than {_MOST_OBJECTS} objects, expected one for each attribute")
        members = dict(pairs)
        if len(members) < len(pairs):
            raise Wrong(f"a key stands twice among {listed([key for key, _ in pairs])}")
        return members

    return made


def _no_constant(name: str) -> float:
    raise Wrong(f"got {name}, expected finite numbers")


def an_object(place: str, value: Any) -> dict[str, Any]:
    """Return the value; raise Wrong if it is not an object."""
    if not isinstance(value, dict):
        raise Wrong(f"{place}: got {shown(value)}, expected an object")
    return value


def check_keys(place: str, document: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise Wrong for a key that is not in `known`."""
    for key in document:
        if key not in known:
            raise Wrong(f"{place}: unknown key {shown(key)}; the keys are {', '.join(known)}")


def a_number(place: str, value: Any) -> float:
    """Return the value; raise Wrong if it is not a finite number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    raise Wrong(f"{place}: got {shown(value)}, expected a finite number")


def a_list(place: str, value: Any, least: int, most: int, what: str) -> list[Any]:
    """Return the value; raise Wrong if it is not a list of `least` to `most` entries."""
    if isinstance(value, list) and least <= len(value) <= most:
        return value
    bounds = f"{least} to {most}" if least else f"at most {most}"
    actual = f"{len(value)} of them" if isinstance(value, list) and value else shown(value)
    raise Wrong(f"{place}: got {actual}, expected a list of {bounds} {what}")


def name_of(name: str) -> str:
    """Return a name for a message, without quotes."""
    return shown(name)[1:-1]


def listed(names: list[str]) -> str:
    """Return the first names for a message."""
    text = ", ".join(shown(name) for name in names[:_SHOWN])
    return text if len(names) <= _SHOWN else f"{text} and {len(names) - _SHOWN} more"
