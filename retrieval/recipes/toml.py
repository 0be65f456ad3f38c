"""TOML of recipes: a recipe's text with other values, and values as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import SingleKey

from workflows.errors import RecipeError


def rewrite(text: str, values: Mapping[Any, Any]) -> str:
    """Return the text of a recipe with other `values` at their dotted names, or tuples of keys; comments and order
    stay. Raise RecipeError for a value of a type that TOML does not have."""
    document = tomlkit.parse(text)
    for name, value in values.items():
        *sections, key = name.split(".") if isinstance(name, str) else name
        table: Any = document
        for section in sections:
            table = table.setdefault(section, tomlkit.table())
        if value is None:  # which TOML does not have: a field that is left out
            table.pop(key, None)
        else:
            table[key] = _item(name, value)
    return tomlkit.dumps(document)


def _item(name: str | tuple[str, ...], value: Any) -> Any:
    try:
        return tomlkit.value(inline(value))
    except ValueError as error:
        where = name if isinstance(name, str) else ".".join(name)
        raise RecipeError(f"{where}: {error}; expected what TOML has: text, numbers, lists, dictionaries") from None


def inline(value: Any) -> str:
    """Return a value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key_of(key)} = {inline(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return tomlkit.item(value).as_string()


def key_of(key: str) -> str:
    """Return a key, in quotes where it needs them."""
    return SingleKey(key).as_string()
