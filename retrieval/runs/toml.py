"""A recipe's text with other values: comments and order stay where that is possible."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from retrieval.runs.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def rewrite(text: str, values: Mapping[str, Any], recipe: Recipe) -> str:
    """Return TOML that reads as `recipe`: `text` with `values` put at their dotted names.

    Where the text is laid out in a way that this cannot follow (inline tables, dotted keys), the whole recipe is
    rewritten, without the comments of the original.
    """
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        text = _put(text, section, key, value)
    try:
        if msgspec.convert(tomllib.loads(text), Recipe) == recipe:
            return text
    except (tomllib.TOMLDecodeError, msgspec.ValidationError):
        pass
    return "\n".join(_table("", _without_none(msgspec.to_builtins(recipe)))).strip() + "\n"


def _put(text: str, section: str, key: str, value: Any) -> str:
    """Replace the line `key = ...` of a section, or add one at the end of the section, or add the section."""
    lines = text.splitlines()
    headers = [number for number, line in enumerate(lines) if re.match(r"\s*\[", line)]
    own = [number for number in headers if re.match(rf"\s*\[\s*{re.escape(section)}\s*\]", lines[number])]
    if section and not own:
        return "\n".join([*lines, "", f"[{section}]", f"{key} = {inline(value)}"]) + "\n"
    start = own[0] + 1 if section else 0
    end = next((number for number in headers if number >= start), len(lines))
    for number in range(start, end):
        found = re.match(rf"(\s*{re.escape(key)}\s*=\s*)([^#]*?)(\s*#.*)?$", lines[number])
        if found:
            lines[number] = f"{found[1]}{inline(value)}{found[3] or ''}"
            return "\n".join(lines) + "\n"
    while end > start and not lines[end - 1].strip():
        end -= 1
    return "\n".join([*lines[:end], f"{key} = {inline(value)}", *lines[end:]]) + "\n"


def _table(path: str, document: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in document.items() if not isinstance(value, dict)}
    lines = [f"{key_of(key)} = {inline(value)}" for key, value in plain.items()]
    if path and lines:
        lines = ["", f"[{path}]", *lines]
    for key, value in document.items():
        if isinstance(value, dict):
            lines += _table(f"{path}.{key_of(key)}" if path else key_of(key), value)
    return lines


def inline(value: Any) -> str:
    """Return a value as TOML writes it in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key_of(key)} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are written alike


def key_of(key: str) -> str:
    """Return a key, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _without_none(value: Any) -> Any:
    """TOML has no null; a field that is None is left out, as it was when it was read."""
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, (list, tuple)) else value
