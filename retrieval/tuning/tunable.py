"""What `retrieval tune` may change: fields of a recipe's [model] and [train], and the values to try."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from retrieval.recipes.recipe import Recipe
from workflows.errors import RecipeError
from workflows.features.plan import history_of

DEFAULTS = (
    "train.learning_rate=0.0005..0.01:log",
    "model.dropout=0.1..0.7",
    "model.temperature=0.05..0.4:log",
    "model.unseen_rate=0.0..0.1",
)
DEFAULTS_WITH_HISTORY = ("model.history_dropout=0.0..0.6",)
"""Besides, for a recipe with a history."""
_SECTIONS = ("model", "train")
_NOT_SEARCHED = {
    "train.monitor": "it is what trials are compared by; set it in the recipe",
    "train.refit": "it does not change the validation figure",
}


@dataclass(frozen=True)
class Field:
    """A field and what to try: `choices`, or a number from `low` to `high`."""

    name: str
    """Such as train.learning_rate."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[str, ...] = ()
    """As JSON, because a study keeps strings and numbers but no lists."""

    def value(self, drawn: Any) -> Any:
        """Return a drawn value as the recipe gets it; numbers have four digits, so that they read well."""
        if self.choices:
            return json.loads(drawn)
        return int(drawn) if self.integer else float(f"{drawn:.4g}")


def default_fields(recipe: Recipe) -> list[Field]:
    """Return the fields that are searched when none are asked for."""
    return parse_fields([*DEFAULTS, *(DEFAULTS_WITH_HISTORY if history_of(recipe.query) else ())], recipe)


def parse_fields(texts: Sequence[str], recipe: Recipe) -> list[Field]:
    """Parse `SECTION.FIELD=LOW..HIGH`, the same with `:log`, or `SECTION.FIELD=ONE,OTHER`; choices may be a JSON list.
    Raise RecipeError for an unknown or doubled field, malformed text, or values that the recipe would refuse."""
    fields = [_parse(text, recipe) for text in texts]
    names = [field.name for field in fields]
    for field in fields:
        if names.count(field.name) > 1:
            raise RecipeError(f"--field {field.name}: given twice")
        ends: Sequence[Any] = field.choices or (field.low, field.high)
        for end in ends:
            changed(recipe, {field.name: field.value(end)})
    return fields


def field_names(recipe: Recipe) -> list[str]:
    """Return the names of all fields that can be searched; those of a section within a section are dotted once more."""
    names = [name for section in _SECTIONS for name in _below(section, getattr(recipe, section))]
    return [name for name in names if name not in _NOT_SEARCHED]


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values at dotted names; raise RecipeError for one of the wrong type or range."""
    document = msgspec.to_builtins(recipe)
    for name, value in values.items():
        *path, key = name.split(".")
        section = document
        for part in path:
            section = section[part]
        section[key] = value
    try:
        return msgspec.convert(document, Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(f"--field {', '.join(values)}: {error}") from None


def present(recipe: Recipe, field: Field) -> Any:
    """Return what the recipe has for a field, as a study keeps it; None where the search could not draw it."""
    section, key = _section(recipe, field.name)
    value = msgspec.to_builtins(getattr(section, key))
    if field.choices:
        return text if (text := json.dumps(value)) in field.choices else None
    return value if value is not None and field.low <= value <= field.high else None


def _parse(text: str, recipe: Recipe) -> Field:
    name, equals, values = text.partition("=")
    if name in _NOT_SEARCHED:
        raise RecipeError(f"--field {name}: cannot be searched: {_NOT_SEARCHED[name]}")
    if name not in field_names(recipe):
        raise RecipeError(f"--field {name}: no such field; there are {', '.join(field_names(recipe))}")
    if not equals or not values:
        raise RecipeError(f"--field {text}: expected {name}=LOW..HIGH, {name}=LOW..HIGH:log or {name}=ONE,OTHER")
    return _range(name, values, _kinds(recipe, name)) if ".." in values else _choices(name, values)


def _range(name: str, values: str, kinds: set[type]) -> Field:
    bounds, _, scale = values.partition(":")
    try:
        low, high = (float(bound) for bound in bounds.split(".."))
    except ValueError:
        raise RecipeError(f"--field {name}={values}: {bounds!r} is not LOW..HIGH, two numbers") from None
    if not kinds & {inspect.IntType, inspect.FloatType}:
        raise RecipeError(f"--field {name}={values}: not a number, so it has no range; give choices, {name}=ONE,OTHER")
    integer = inspect.IntType in kinds
    if scale not in ("", "log") or not low < high or (scale and low <= 0) or (integer and (low % 1 or high % 1)):
        numbers = "whole numbers " if integer else ""
        raise RecipeError(
            f"--field {name}={values}: expected {numbers}LOW < HIGH, and nothing or :log (LOW > 0) after it"
        )
    return Field(name, low, high, log=scale == "log", integer=integer)


def _choices(name: str, values: str) -> Field:
    listed = _json(values) if values.startswith("[") else [_json(choice) for choice in values.split(",")]
    return Field(name, choices=tuple(dict.fromkeys(json.dumps(choice) for choice in listed)))


def _json(text: str) -> Any:
    """JSON where it is JSON, else the text itself: `0.5`, `true`, `[128, 64]`, `cosine`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _kinds(recipe: Recipe, name: str) -> set[type]:
    section, key = _section(recipe, name)
    described = inspect.type_info(type(section))
    assert isinstance(described, inspect.StructType)
    kind = next(field.type for field in described.fields if field.name == key)
    return {type(part) for part in (kind.types if isinstance(kind, inspect.UnionType) else (kind,))}


def _section(recipe: Recipe, name: str) -> tuple[msgspec.Struct, str]:
    *path, key = name.split(".")
    return functools.reduce(getattr, path, recipe), key


def _below(path: str, section: msgspec.Struct) -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        name, value = f"{path}.{field.name}", getattr(section, field.name)
        yield name
        if isinstance(value, msgspec.Struct):
            yield from _below(name, value)
