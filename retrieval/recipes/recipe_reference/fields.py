"""What the config classes say of their fields: types and defaults in words, and the docstring under each."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect as types

_NUMBERS: dict[Any, str] = {
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.BoolType: "true or false",
}


@cache
def docs_of(struct: type) -> dict[str, str]:
    """Return the docstring under each field of a config class, inherited ones included."""
    docs: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if not (issubclass(base, msgspec.Struct) and base.__module__.partition(".")[0] != "msgspec"):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                docs[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))  # type: ignore[attr-defined]
    return docs


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop before a capital letter or a key."""
    return re.split(r"(?<=\.)\s(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]


def fields_of(struct: type) -> tuple[types.Field, ...]:
    """Return the fields of a config class."""
    described = types.type_info(struct)
    assert isinstance(described, types.StructType)
    return described.fields


def structs(kind: types.Type) -> list[type]:
    """Return the config classes that a type may be, or may hold."""
    if isinstance(kind, types.StructType):
        return [kind.cls]
    inner: list[Any] = list(getattr(kind, "types", ()))
    inner += [getattr(kind, name) for name in ("item_type", "value_type") if hasattr(kind, name)]
    return list(dict.fromkeys(struct for part in inner for struct in structs(part)))


def tag(struct: type) -> str:
    """Return the value by which a class of several is chosen, such as `random`; empty for the only one."""
    return str(struct.__struct_config__.tag or "")  # type: ignore[attr-defined]


def variant(struct: type) -> str:
    """Return the line of a recipe that chooses a class of several; empty for the only one."""
    return f'{struct.__struct_config__.tag_field} = "{tag(struct)}"' if tag(struct) else ""  # type: ignore[attr-defined]


def type_name(kind: types.Type) -> str:
    """Return a type in words."""
    if isinstance(kind, types.UnionType):
        several = [type_name(part) for part in kind.types if not isinstance(part, (types.NoneType, types.StructType))]
        several += ["a table, see below"] if any(isinstance(part, types.StructType) for part in kind.types) else []
        return " or ".join(dict.fromkeys(several))
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{json.dumps(value)}`" for value in kind.values)
    if isinstance(kind, (types.VarTupleType, types.ListType)):
        return f"list of {type_name(kind.item_type)}"
    if isinstance(kind, types.DictType):
        return f"table of {type_name(kind.value_type)}"
    return _limited(kind) if type(kind) in _NUMBERS else "a table, see below"


def default(field: types.Field) -> str:
    """Return a field's default as a recipe writes it."""
    if field.required:
        return "must be set"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    plain = msgspec.to_builtins(value)
    if isinstance(value, msgspec.Struct):
        return f"`{tag(type(value))}`" if tag(type(value)) else "its defaults"
    return "none" if plain is None else f"`{json.dumps(plain, ensure_ascii=False)}`"


def _limited(kind: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{sign} {getattr(kind, key)}" for key, sign in signs.items() if getattr(kind, key, None) is not None]
    return " ".join([_NUMBERS[type(kind)], *([", ".join(limits)] if limits else [])])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
