"""The recipe reference, docs/recipe.md and docs/recipe/, made of the config classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

from msgspec import inspect as types

from retrieval.recipes.recipe import Recipe
from retrieval.recipes.recipe_reference.fields import (
    default,
    docs_of,
    fields_of,
    first_sentence,
    structs,
    tag,
    type_name,
    variant,
)
from workflows.config import FeatureSide

COMMAND: Final = "python -m retrieval.recipes.recipe_reference docs"
_WRITTEN = f"<!-- Written by `{COMMAND}` from the config classes; do not edit. -->"
_NAMES = {"query": "features", "item": "features", "index": "item-index"}
"""Pages not called like their section: both sides' features share one; `index` would be the folder's own page."""
_HEAD = ["| key | type | default | |", "|---|---|---|---|"]
_INTRODUCTION = """\
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
split = { kind = "random", test = 0.2, validation = 0.1, seed = 42 }   # or temporal, leave-last-out, given

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
user, else null."""


def pages() -> dict[str, str]:
    """Return every page of the reference by its path below `docs/`."""
    by_path: dict[str, str] = {}
    for field in fields_of(Recipe):
        if parts := structs(field.type):
            by_path.setdefault(_path(field), _page(field, parts))
    return {"recipe.md": _overview(), **by_path}


def _path(field: types.Field) -> str:
    return f"recipe/{_NAMES.get(field.encode_name, field.encode_name)}.md"


def _overview() -> str:
    """Return the page with the keys of the top level and a link to each section's page."""
    plain = [field for field in fields_of(Recipe) if not structs(field.type)]
    sections = ["| section | |", "|---|---|"]
    for field in fields_of(Recipe):
        if parts := structs(field.type):
            name = f"{field.encode_name}.features" if FeatureSide in parts else field.encode_name
            sections.append(f"| [`[{name}]`]({_path(field)}) | {_about(parts)} |")
    keys = [*_HEAD, *(_row(Recipe, field) for field in plain)]
    blocks = ["# Recipe", _WRITTEN, _INTRODUCTION, "## Top level", "\n".join(keys), "## Sections", "\n".join(sections)]
    return "\n\n".join(blocks) + "\n"


def _about(parts: list[type]) -> str:
    """Return what a section is for, or its variants."""
    if FeatureSide in parts:
        return "Raw columns, and the features that they become."
    return ", ".join(f"`{variant(part)}`" for part in parts if variant(part)) or first_sentence(_about_class(parts[0]))


def _about_class(struct: type) -> str:
    return inspect.cleandoc(struct.__doc__ or "")


def _page(field: types.Field, parts: list[type]) -> str:
    if FeatureSide in parts:
        kinds = structs(fields_of(FeatureSide)[0].type)
        blocks = ["# Recipe: features", _WRITTEN, _FEATURES, _summary(kinds, "must be set"), *_kinds(kinds)]
    else:
        name = field.encode_name
        several = len(parts) > 1 or any(structs(part.type) for part in fields_of(parts[0]))
        head = [_summary(parts, default(field))] if several else []
        blocks = [f"# Recipe: `[{name}]`", _WRITTEN, *head, *_chapters(name, parts, 2 if several else 0, set())]
    return "\n\n".join(blocks) + "\n"


def _summary(parts: list[type], chosen: str) -> str:
    """Return one table of every key of a page; what several variants have alike is one row. `chosen` is the default."""
    variants: dict[tuple[str, str], list[str]] = {}
    for of, key, rest in _keys("", parts, "", set()):
        variants.setdefault((key, rest), []).append(of)
    rows = []
    if variant(parts[0]):
        values = ", ".join(f'`"{tag(part)}"`' for part in parts)
        rows.append(f"| `{variant(parts[0]).partition(' ')[0]}` | {values} | {chosen} | Which of the variants below. |")
    for (key, rest), several in variants.items():
        of = "" if several == [tag(part) for part in parts] else ", ".join(filter(None, several))
        rows.append(f"| `{key}`" + (f" ({of})" if of else "") + f" | {rest} |")
    return "\n".join([*_HEAD, *rows])


def _keys(path: str, parts: list[type], of: str, seen: set[type]) -> Iterator[tuple[str, str, str]]:
    """Yield the variant of each key, the key, and the rest of its row; after a table, what is inside it."""
    for part in parts:
        if part in seen:
            continue
        seen.add(part)
        which = tag(part) or of
        for field in fields_of(part):
            yield which, f"{path}{field.encode_name}", _cells(field, first_sentence(_text(part, field)))
            yield from _keys(f"{path}{field.encode_name}.", structs(field.type), which, seen)


def _chapters(path: str, parts: list[type], depth: int, seen: set[type]) -> Iterator[str]:
    """Yield a section, or its variants, and then the tables inside it, without those `seen` elsewhere."""
    for part in parts:
        if part in seen:
            continue
        seen.add(part)
        if depth:
            name = f"[{path}]" if depth == 2 and "." not in path else path
            yield f"{'#' * depth} `{name}`" + (f", `{variant(part)}`" if variant(part) else "")
        yield from _section(part)
        for field in fields_of(part):
            yield from _chapters(f"{path}.{field.encode_name}", structs(field.type), depth + 1, seen)


def _kinds(kinds: list[Any]) -> Iterator[str]:
    """Yield every kind of feature with its example."""
    for kind in kinds:
        yield f"## `{tag(kind)}`"
        text, *table = _section(kind)
        yield from (text, f"```toml\n{kind.example}```", *table)


def _section(struct: type) -> list[str]:
    """Return what a class says of itself, and the table of its fields."""
    rows = [_row(struct, field) for field in fields_of(struct)]
    return [_about_class(struct), *(["\n".join([*_HEAD, *rows])] if rows else [])]


def _row(struct: type, field: types.Field) -> str:
    return f"| `{field.encode_name}` | {_cells(field, _text(struct, field))} |"


def _text(struct: type, field: types.Field) -> str:
    return " ".join(docs_of(struct).get(field.name, "").split())


def _cells(field: types.Field, text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"{type_name(field.type)} | {default(field)} | {escaped}"
