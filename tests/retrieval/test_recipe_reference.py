"""docs/recipe.md and docs/recipe/ say what the config classes say, and their examples are recipes."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from retrieval.recipes.recipe import parse_recipe
from retrieval.recipes.recipe_reference.fields import docs_of, first_sentence, tag
from retrieval.recipes.recipe_reference.pages import COMMAND, pages
from workflows.config import Continuous, Feature
from workflows.features.plan import history_of, plan

DOCS = Path(__file__).parents[2] / "docs"
REST = """
name = "example"
[data]
source = "movielens"
"""
EXAMPLES = {tag(kind): kind.example for kind in typing.get_args(Feature)}
SIDES = {"[query.features]": "user_id", "[item.features]": "item_id"}


def test_the_pages_are_what_the_classes_say() -> None:
    written = {page: (DOCS / page).read_text(encoding="utf-8") for page in pages()}
    assert written == pages(), f"run `{COMMAND}` and commit the pages"
    assert {f"recipe/{page.name}" for page in (DOCS / "recipe").iterdir()} | {"recipe.md"} == written.keys()


def test_a_table_of_every_key_is_at_the_head_of_a_section() -> None:
    for path, text in pages().items():
        head = text.partition("\n## ")[0]
        assert path == "recipe.md" or "\n| key | type | default | |\n" in head, path
    data = pages()["recipe/data.md"].partition("\n## ")[0]
    assert "| `split.test` (random) | number > 0.0, < 1.0 | `0.2` |" in data
    assert "| `path` (playlists) | string | must be set |" in data


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_example_is_a_recipe_with_that_kind(kind: str, tmp_path: Path) -> None:
    text = EXAMPLES[kind]
    missing = [f'{side}\n{key} = {{ kind = "categorical" }}\n' for side, key in SIDES.items() if side not in text]
    recipe = parse_recipe(REST + text + "".join(missing), tmp_path / "example.toml")
    kinds = {feature.kind for side in ("query", "item") for feature in plan(getattr(recipe, side), f"{side}.features")}
    assert kind in kinds or (kind == "sequence" and history_of(recipe.query))


def test_inherited_fields_have_their_docstrings() -> None:
    assert {"name", "fill", "log", "normalise"} <= docs_of(Continuous).keys()


def test_a_sentence_ends_at_a_full_stop_before_a_capital() -> None:
    assert (
        first_sentence("Every row has 1.0, see et al. 2018. Without\nit none.") == "Every row has 1.0, see et al. 2018."
    )
