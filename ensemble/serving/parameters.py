"""Reading JSON that one does not trust: every field typed, ranged and accounted for."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from .errors import InvalidRelease

LARGEST = 1 << 26
"""Bytes of the largest JSON file that is read."""
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


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


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


class Fields:
    """A JSON object whose fields are taken one by one; `finish` refuses what is left over."""

    def __init__(self, found: Any, where: str) -> None:
        """Take a parsed JSON value; `where` is the file and the place in it, for messages."""
        self.where = where
        if not isinstance(found, dict):
            raise self.error("expected an object")
        self._left = dict(found)

    def error(self, reason: str) -> InvalidRelease:
        """Return the error to raise for `reason`."""
        return InvalidRelease(f"{self.where}: {reason}")

    def finish(self) -> None:
        """Refuse fields that nobody has taken."""
        if self._left:
            raise self.error(f"unknown field {min(self._left)!r}")

    @property
    def names(self) -> list[str]:
        """Return the names of the fields that are not taken yet."""
        return list(self._left)

    def has(self, key: str) -> bool:
        """Return whether the field is there and not taken yet."""
        return key in self._left

    def is_empty(self, key: str) -> bool:
        """Return whether the field is an empty list."""
        return bool(self._left.get(key) == [])

    def is_null(self, key: str) -> bool:
        """Return whether the field is there and null."""
        return key in self._left and self._left[key] is None

    def text(self, key: str) -> str:
        """Take a string that is not empty."""
        value = self._take(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"{key} must be a string, got {value!r}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """Take one of the allowed strings."""
        value = self._take(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.error(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
        return value

    def digest(self, key: str) -> str:
        """Take a SHA-256 in hexadecimal, whole or its first half."""
        value = self._take(key)
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise self.error(f"{key} must be 32 or 64 hexadecimal digits, got {value!r}")
        return value

    def flag(self, key: str) -> bool:
        """Take true or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, got {value!r}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Take an integer between `low` and `high`, both included."""
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(f"{key} must be an integer from {low} to {high}, got {value!r}")
        return value

    def number(self, key: str) -> float:
        """Take a finite number."""
        return self._finite(key, self._take(key))

    def numbers(self, key: str) -> list[float]:
        """Take a list of finite numbers."""
        return [self._finite(key, value) for value in self._list(key)]

    def texts(self, key: str) -> list[str]:
        """Take a list of strings that are not empty."""
        values = self._list(key)
        if not values or not all(isinstance(value, str) and value for value in values):
            raise self.error(f"{key} must be strings, got {values!r}")
        return values

    def rows(self, key: str) -> list[list[float]]:
        """Take a list of lists of finite numbers."""
        found = self._list(key)
        if not all(isinstance(row, list) for row in found):
            raise self.error(f"{key} must be lists of numbers, got {found!r}")
        return [[self._finite(key, value) for value in row] for row in found]

    def object(self, key: str) -> Fields:
        """Take an object."""
        return Fields(self._take(key), f"{self.where}, {key}")

    def mapping(self, key: str) -> dict[str, Any]:
        """Take an object as it is; its keys are strings, its values anything."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(f"{key} must be an object")
        return value

    def objects(self, key: str) -> list[Fields]:
        """Take a list of objects."""
        return [Fields(value, f"{self.where}, {key}[{row}]") for row, value in enumerate(self._list(key))]

    def _list(self, key: str) -> list[Any]:
        value = self._take(key)
        if not isinstance(value, list):
            raise self.error(f"{key} must be a list, got {value!r}")
        return value

    def _finite(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1.7976931348623157e308:
            raise self.error(f"{key} must be a finite number, got {value!r}")
        if not math.isfinite(value):
            raise self.error(f"{key} must be a finite number, got {value!r}")
        return float(value)

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise self.error(f"{key} is missing")
        return self._left.pop(key)
