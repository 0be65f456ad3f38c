"""Reading JSON that one does not trust: every field typed, ranged and accounted for."""

from __future__ import annotations

import math
from typing import Any

from .errors import InvalidRelease


class Fields:
    """A JSON object whose fields are taken one by one; `finish` refuses what is left over."""

    def __init__(self, found: Any, where: str) -> None:
        """Take a parsed JSON value; `where` is the file and the place in it, for messages."""
        self._where = where
        if not isinstance(found, dict):
            raise self.error("expected an object")
        self._left = dict(found)

    def error(self, reason: str) -> InvalidRelease:
        """Return the error to raise for `reason`."""
        return InvalidRelease(f"{self._where}: {reason}")

    def finish(self) -> None:
        """Refuse fields that nobody has taken."""
        if self._left:
            raise self.error(f"unknown field {min(self._left)!r}")

    def has(self, key: str) -> bool:
        """Return whether the field is there and not taken yet."""
        return key in self._left

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

    def objects(self, key: str) -> list[Fields]:
        """Take a list of objects."""
        return [Fields(value, f"{self._where}, {key}[{row}]") for row, value in enumerate(self._list(key))]

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
