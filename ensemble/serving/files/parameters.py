"""Reads untrusted JSON: every field is typed, bounded and accounted for."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InvalidRelease

LARGEST = 1 << 26
"""Bytes of the largest JSON file that is read."""
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_LONGEST_NAME = 256
_SHOWN = 80


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Return a UTF-8 file of at most `largest` bytes; raise InvalidRelease naming it where it is anything else."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
        if len(content) <= largest:
            return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRelease(f"{path}: not a readable text file: {error}") from None
    raise InvalidRelease(f"{path}: more than {largest} bytes")


def parse_json(text: str, path: Path) -> Any:
    """Return the value of a JSON text with finite numbers only; raise InvalidRelease naming the file it comes from."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRelease(f"{path}: not JSON: {error}") from None


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; raise InvalidRelease as `read_text` and `parse_json` do."""
    return parse_json(read_text(path), path)


def shown(value: Any) -> str:
    """Return the beginning of a value for a message, however large it is."""
    text = ascii(_begun(value, 2))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _begun(value: Any, depth: int) -> Any:
    """Return as much of a value as a message may show."""
    if isinstance(value, str):
        return value[: _SHOWN + 1]
    if isinstance(value, (list, dict)) and not depth:
        return "..."
    if isinstance(value, list):
        return [_begun(entry, depth - 1) for entry in value[:_SHOWN]]
    if isinstance(value, dict):
        return {_begun(key, 0): _begun(value[key], depth - 1) for key in islice(value, _SHOWN)}
    return value


def is_time(text: Any) -> bool:
    """Return whether a value is a time as a release states it, `2026-09-01T12:00:00+00:00`."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return False
    try:
        return datetime.fromisoformat(text).year > 0
    except ValueError:  # the 31st of February, say
        return False


def is_utf8(value: object) -> bool:
    """Return whether a value is a string that UTF-8 can encode; JSON can spell half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


class Fields:
    """A JSON object whose fields are taken one by one; `finish` refuses the rest."""

    def __init__(self, value: Any, where: str) -> None:
        """Take a parsed JSON value; `where` names the file and the place in it, for messages."""
        self.where = where
        if not isinstance(value, dict):
            raise self.error("expected an object")
        self._left = dict(value)

    def error(self, reason: str) -> InvalidRelease:
        """Return the error to raise for `reason`."""
        return InvalidRelease(f"{self.where}: {reason}")

    def finish(self) -> None:
        """Refuse fields that were not taken."""
        if self._left:
            raise self.error(f"unknown field {shown(min(self._left))}")

    @property
    def names(self) -> list[str]:
        """Return the names of the fields that are not taken yet; refuse one that is not text."""
        for name in self._left:
            if not is_utf8(name):
                raise self.error(f"a field is called {shown(name)}, which is no text")
        return list(self._left)

    def has(self, key: str) -> bool:
        """Return whether the field is there and not taken yet."""
        return key in self._left

    def is_null(self, key: str) -> bool:
        """Return whether the field is there and null."""
        return key in self._left and self._left[key] is None

    def text(self, key: str) -> str:
        """Take a string that is not empty."""
        return str(self._take(key, lambda value: is_utf8(value) and value, "text"))

    def name(self, key: str) -> str:
        """Take a name that Triton's configuration can hold: printable, at most 256 bytes of UTF-8."""
        value = self.text(key)
        if not value.isprintable() or len(value.encode()) > _LONGEST_NAME:
            raise self.error(f"{key} must be printable text of at most {_LONGEST_NAME} bytes, got {shown(value)}")
        return value

    def time(self, key: str) -> str:
        """Take a time, UTC, ISO 8601 to the second: of two such strings the lesser is the earlier."""
        return str(self._take(key, is_time, "a time such as 2026-09-01T12:00:00+00:00"))

    def null(self, key: str) -> None:
        """Take null."""
        self._take(key, lambda value: value is None, "null")

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """Take one of the allowed strings."""
        listed = f"one of {', '.join(allowed)}"
        return str(self._take(key, lambda value: isinstance(value, str) and value in allowed, listed))

    def digest(self, key: str) -> str:
        """Take a SHA-256 in hexadecimal, whole or its first half."""
        fits = lambda value: isinstance(value, str) and _DIGEST.fullmatch(value)  # noqa: E731
        return str(self._take(key, fits, "32 or 64 hexadecimal digits"))

    def flag(self, key: str) -> bool:
        """Take true or false."""
        return bool(self._take(key, lambda value: isinstance(value, bool), "true or false"))

    def integer(self, key: str, low: int, high: int) -> int:
        """Take an integer between `low` and `high`, both included."""
        whole = f"an integer from {low} to {high}"
        return int(self._take(key, lambda value: type(value) is int and low <= value <= high, whole))

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Take a finite number between `low` and `high`, both included."""
        value = self._finite(key, self._take(key))
        if not low <= value <= high:
            raise self.error(f"{key} must be from {low:g} to {high:g}, got {shown(value)}")
        return value

    def numbers(self, key: str) -> list[float]:
        """Take a list of finite numbers."""
        return [self._finite(key, value) for value in self.entries(key)]

    def texts(self, key: str, least: int = 1) -> list[str]:
        """Take a list of at least so many strings, none of them empty."""
        values = self.entries(key)
        if len(values) < least or not all(is_utf8(value) and value for value in values):
            raise self.error(f"{key} must be texts, got {shown(values)}")
        return values

    def rows(self, key: str) -> list[list[float]]:
        """Take a list of lists of finite numbers."""
        lists = self.entries(key)
        if not all(isinstance(row, list) for row in lists):
            raise self.error(f"{key} must be lists of numbers, got {shown(lists)}")
        return [[self._finite(key, value) for value in row] for row in lists]

    def object(self, key: str) -> Fields:
        """Take an object."""
        return Fields(self._take(key, lambda value: isinstance(value, dict), "an object"), f"{self.where}, {key}")

    def objects(self, key: str) -> list[Fields]:
        """Take a list of objects."""
        return [Fields(value, f"{self.where}, {key}[{row}]") for row, value in enumerate(self.entries(key))]

    def entries(self, key: str) -> Any:
        """Take a list of anything, which another check looks at."""
        return self._take(key, lambda value: isinstance(value, list), "a list")

    def length(self, key: str) -> int:
        """Return how many entries a list has, without taking it."""
        return len(Fields(self._left, self.where).entries(key))

    def _finite(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise self.error(f"{key} must be a finite number, got {shown(value)}")
        return float(value)

    def _take(self, key: str, fits: Callable[[Any], Any] = lambda _: True, expected: str = "") -> Any:
        """Take a value; refuse one that does not fit."""
        if key not in self._left:
            raise self.error(f"{key} is missing")
        value = self._left.pop(key)
        if not fits(value):
            raise self.error(f"{key} must be {expected}, got {shown(value)}")
        return value
