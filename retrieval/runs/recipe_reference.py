"""The recipe reference, made of the config classes: `python -m retrieval.runs.recipe_reference > docs/recipe.md`."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect as types

from retrieval.runs.recipe import Recipe
from retrieval.runs.recipe_examples import EXAMPLES
from workflows.config import FeatureSide

_INTRODUCTION = """\
# The recipe

<!-- Written by `python -m retrieval.runs.recipe_reference > docs/recipe.md` from the config classes; do not edit. -->

One TOML file says everything about a run. Unknown keys, unknown columns and combinations that cannot be are refused
when it is read, with the key and what to do. Paths are relative to the recipe's directory; addresses with `://`
(fsspec) are taken as they are. A field without a default must be set.

```toml
name = "movielens-100k"             # the run is runs/<name>/
device = "auto"                     # auto | gpu | cpu; never decided by what happens to be importable

[data]
source = "movielens"                # variants 100k, 1m, 20m, 25m, 32m, with the published checksums
variant = "100k"
merge_items_on = "title"            # the catalogue is the 1,659 titles (22 have two ids)
split = { kind = "random", test = 0.2, validation = 0.1, seed = 42 }   # or temporal, leave-last-out

[query.features]                    # raw column -> how it is engineered
user_id = { kind = "categorical" }
age = { kind = "continuous", normalise = true }
history = { kind = "sequence", last = 50 }    # what the user did up to the query's time, never later

[item.features]
item_id = { kind = "categorical" }
title = { kind = "text", ngrams = 1, max_tokens = 10000 }
genres = { kind = "multi-hot" }
year = { kind = "bucketized", buckets = 20 }

[model]
tower = [128, 64]                   # MLPBlock widths; the last is the dimension of the vectors

[train]
epochs = 12                         # at most; early stopping on validation recall

[index]
kind = "flat"                       # exact; or auto | ivf_flat | ivf_sq8 | ivf_pq | hnsw | scann | milvus

[serving]
top_k = 100                         # answers when the request does not say

[bench]
concurrency = [1, 4, 16]            # requests in flight
```

`recipes/movielens-100k.toml` is the whole one. Features may be categorical (frequency threshold, maximum size, hash
buckets, shared vocabularies), crosses, continuous (fill, clip, log, normalise, min-max), buckets (even, quantile, given
edges), time (hour, weekday, month, cyclic, age), multi-hot and weighted multi-hot, text with n-grams, histories,
pre-trained vectors (frozen or trainable) and aggregates of the training rows. NVTabular defines each, a compiled NumPy
form serves it, and no release is made where the two differ."""
_FEATURES = """\
`[query.features]` and `[item.features]` map raw columns to what is made of them: one feature, or a list of several.
The columns of the query are those of the interactions and of the users; those of the item are the items'. What is
learned is learned from the training rows (of items, from the whole catalogue). Training and server make the same, or
there is no release. Of a query's columns the server takes what a request sends, else what the release knows of the
user, else null.
"""
_NUMBERS: dict[Any, str] = {
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.BoolType: "true or false",
}


def reference() -> str:
    """Return docs/recipe.md."""
    seen: set[type] = set()
    blocks = [_INTRODUCTION, "## Top level", *_section(Recipe)]
    for field in _fields(Recipe):
        if not (parts := _structs(field.type)):
            continue
        if FeatureSide in parts:
            if field.encode_name == "query":
                blocks += ["## `[query.features]` and `[item.features]`", _FEATURES.strip(), *_kinds()]
            continue
        blocks += _chapter(field.encode_name, parts, 2, seen)
    return "\n\n".join(blocks) + "\n"


def docs_of(struct: type) -> dict[str, str]:
    """Return the docstring under each field of a config class, inherited ones included."""
    found: dict[str, str] = {}
    for one in reversed(struct.__mro__):
        if not (issubclass(one, msgspec.Struct) and one.__module__.partition(".")[0] != "msgspec"):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))  # type: ignore[attr-defined]
    return found


def _chapter(path: str, parts: list[type], depth: int, seen: set[type]) -> Iterator[str]:
    """Yield a section, or its variants, and then what is inside of it; what was `seen` elsewhere is left out."""
    for part in parts:
        if part in seen:
            continue
        seen.add(part)
        tag = _tag(part)
        name = f"[{path}]" if depth == 2 else path
        yield f"{'#' * depth} `{name}`" + (f", `{tag}`" if tag else "")
        yield from _section(part)
        for field in _fields(part):
            yield from _chapter(f"{path}.{field.encode_name}", _structs(field.type), depth + 1, seen)


def _kinds() -> Iterator[str]:
    for kind in _structs(_fields(FeatureSide)[0].type):
        tag = str(kind.__struct_config__.tag)  # type: ignore[attr-defined]
        yield f"### `{tag}`"
        text, *table = _section(kind)
        yield from (text, f"```toml\n{EXAMPLES[tag]}```", *table)


def _section(struct: type) -> list[str]:
    """Return what a class says of itself, and the table of its fields."""
    docs, rows = docs_of(struct), []
    for field in _fields(struct):
        if struct is Recipe and _structs(field.type):
            continue
        rows.append(f"| `{field.encode_name}` | {_words(field.type)} | {_default(field)} | {_line(docs, field)} |")
    table = ["\n".join(["| field | type | default | |", "|---|---|---|---|", *rows])] if rows else []
    return [inspect.cleandoc(struct.__doc__ or ""), *table]


def _fields(struct: type) -> tuple[types.Field, ...]:
    described = types.type_info(struct)
    assert isinstance(described, types.StructType)
    return described.fields


def _structs(kind: types.Type) -> list[type]:
    """Return the config classes that a type may be, or may hold."""
    if isinstance(kind, types.StructType):
        return [kind.cls]
    inner: list[Any] = list(getattr(kind, "types", ()))
    inner += [getattr(kind, name) for name in ("item_type", "value_type") if hasattr(kind, name)]
    return list(dict.fromkeys(found for one in inner for found in _structs(one)))


def _tag(struct: type) -> str:
    config = struct.__struct_config__  # type: ignore[attr-defined]
    return f'{config.tag_field} = "{config.tag}"' if config.tag else ""


def _words(kind: types.Type) -> str:
    """Return a type in words."""
    if isinstance(kind, types.UnionType):
        several = [_words(one) for one in kind.types if not isinstance(one, (types.NoneType, types.StructType))]
        several += ["a table, see below"] if any(isinstance(one, types.StructType) for one in kind.types) else []
        return " or ".join(dict.fromkeys(several))
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{json.dumps(one)}`" for one in kind.values)
    if isinstance(kind, (types.VarTupleType, types.ListType)):
        return f"list of {_words(kind.item_type)}"
    if isinstance(kind, types.DictType):
        return f"table of {_words(kind.value_type)}"
    return _limited(kind) if type(kind) in _NUMBERS else "a table, see below"


def _limited(kind: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{sign} {getattr(kind, key)}" for key, sign in signs.items() if getattr(kind, key, None) is not None]
    return " ".join([_NUMBERS[type(kind)], *([", ".join(limits)] if limits else [])])


def _default(field: types.Field) -> str:
    if field.required:
        return "must be set"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    plain = msgspec.to_builtins(value)
    if isinstance(value, msgspec.Struct):
        return f"`{_tag(type(value)).partition(' = ')[2].strip(chr(34))}`" if _tag(type(value)) else "its defaults"
    return "none" if plain is None else f"`{json.dumps(plain, ensure_ascii=False)}`"


def _line(docs: dict[str, str], field: types.Field) -> str:
    return " ".join(docs.get(field.name, "").split()).replace("|", "\\|")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


if __name__ == "__main__":
    sys.stdout.write(reference())
