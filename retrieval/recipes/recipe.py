"""A recipe: one TOML file that says everything about a run."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import msgspec
from msgspec import Meta

from ensemble.config import Bench, Index, Promotion, Serving
from models.config import Blend, Model, Train
from models.evaluation.config import Evaluate, PeerName
from models.ranking.config import Ranking
from retrieval.recipes.naming import check_names
from workflows.columns import Columns
from workflows.config import Categorical, Data, Device, FeatureSide, Section, located, located_side
from workflows.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Line = Annotated[str, Meta(max_length=2000)]


class Card(Section, frozen=True, kw_only=True):
    """What the report's model card says beside what was measured. No stage depends on it."""

    description: Line = ""
    """What the model is for, and for whom."""
    licence: Line = ""
    """Of the model: an SPDX identifier, or words."""
    data: Line = ""
    """Where the tables come from."""
    data_licence: Line = ""
    """Of the tables: an SPDX identifier, or the terms they came under."""
    contact: Line = ""
    """Who answers questions."""
    limits: tuple[Line, ...] = ()
    """What the model should not be used for, and what is known to be wrong with it; a line each."""


class Recipe(Section, frozen=True, kw_only=True):
    """Every section of a recipe, each owned by its package."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run: `runs/<name>/`."""
    seed: int = 42
    """Of the model's initial weights, the batches and dropout."""
    device: Device = "auto"
    """`auto` takes a GPU where TensorFlow or cuDF sees one; `gpu` refuses to run without one."""
    data: Data
    query: FeatureSide
    item: FeatureSide
    model: Model = Model()
    train: Train = Train()
    ranking: Ranking | None = None
    evaluate: Evaluate = Evaluate()
    index: Index = Index()
    serving: Serving = Serving()
    release: Promotion = Promotion()
    bench: Bench = Bench()
    card: Card = Card()


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe; relative paths in it are relative to its directory.

    Raises
    ------
    RecipeError
        The file is missing, not TOML, has an unknown key or a value out of range, or a column or feature has a name
        that the served models have for themselves; names file, key and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; `ls recipes/` lists those that ship with the project") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a readable TOML file: {error}") from None
    return parse_recipe(text, path)


def parse_recipe(text: str, path: Path) -> Recipe:
    """Return the recipe that a text at `path` is; raise RecipeError as `load_recipe`."""
    try:
        document = tomllib.loads(text)
        recipe = msgspec.convert(document, Recipe)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not a readable TOML file: {error}") from None
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {error}") from None
    for place, value in _infinite(document):
        raise RecipeError(f"{path}: expected a finite number, got {value} - at `${place}`")
    check_names(recipe.data, recipe.query, recipe.item, path)
    if recipe.train.preset == "auto" and "blend" not in document.get("model", {}) and _can_blend(recipe):
        recipe = msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, blend=Blend()))
    if recipe.model.blend and recipe.ranking:
        raise RecipeError(
            f"{path}: [model.blend] and [ranking] do not go together: a ranker takes the towers' own scores"
        )
    data, query, item = located(recipe.data, path.parent), recipe.query, recipe.item
    sides = {"query": located_side(query, path.parent), "item": located_side(item, path.parent)}
    train = _located_train(recipe.train, path.parent)
    index = _located_index(recipe.index, path.parent)
    return msgspec.structs.replace(recipe, data=data, train=train, index=index, **sides)


def with_peers(recipe: Recipe, names: str | None) -> Recipe:
    """Return the recipe with other `[evaluate] peers`: names with commas between them, or `none`; None changes nothing.
    Raise RecipeError where there is no such peer."""
    if names is None:
        return recipe
    chosen = [] if names == "none" else [name.strip() for name in names.split(",")]
    known = get_args(PeerName)
    for name in chosen:
        if name not in known:
            raise RecipeError(f"--peers {names}: no peer {name!r}; there are {', '.join(known)}, or none")
    evaluate = msgspec.structs.replace(recipe.evaluate, peers=tuple(name for name in known if name in chosen))
    return msgspec.structs.replace(recipe, evaluate=evaluate)


def _can_blend(recipe: Recipe) -> bool:
    """Return whether a simple model can stand beside the towers: ids are features, and nothing else forbids it."""
    sides = (recipe.query, Columns.User), (recipe.item, Columns.Item)
    warm_start = recipe.train.warm_start
    searched = warm_start is None or warm_start.search
    by_id = all(isinstance(side.features.get(column), Categorical) for side, column in sides)
    return by_id and searched and recipe.train.tasks is None and recipe.ranking is None


def _located_index(index: Index, directory: Path) -> Index:
    """Return the section with the path of its file of milvus-lite, if it names one, made absolute in the same way."""
    if index.uri is None or "://" in index.uri:
        return index
    return msgspec.structs.replace(index, uri=str((directory / Path(index.uri).expanduser()).resolve()))


def _infinite(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield where a document has a number that is none or infinite, which JSON could not keep, and that number."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _infinite(part, f"{place}.{key}" if isinstance(key, str) else f"{place}[{key}]")


def _located_train(train: Train, directory: Path) -> Train:
    """Return the section with the path of its earlier run, if it has one, made absolute in the same way."""
    if train.warm_start is None or train.warm_start.run is None:
        return train
    place = str((directory / Path(train.warm_start.run).expanduser()).resolve())
    return msgspec.structs.replace(train, warm_start=msgspec.structs.replace(train.warm_start, run=place))
