"""The fields of a form: those of an address, or made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Fields(Protocol):
    """What the views read, as werkzeug's `MultiDict` has it."""

    def get(self, key: str, default: str, /) -> str:
        """Return a field's first value."""
        ...

    def getlist(self, key: str, /) -> Sequence[str]:
        """Return all values of a field."""
        ...


@dataclass(frozen=True)
class Given:
    """Fields that no browser sent: the report's."""

    values: Mapping[str, str]

    def get(self, key: str, default: str, /) -> str:
        """Return a field."""
        return self.values.get(key, default)

    def getlist(self, key: str, /) -> Sequence[str]:
        """Return a field as the only value there is of it."""
        return [self.values[key]] if key in self.values else []
