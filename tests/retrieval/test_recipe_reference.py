"""docs/recipe.md says what the config classes say, and its examples are recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.runs.recipe import parse_recipe
from retrieval.runs.recipe_examples import EXAMPLES
from retrieval.runs.recipe_reference import docs_of, reference
from workflows.config import Continuous
from workflows.features.plan import history_of, plan

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
REST = """
name = "example"
[data]
source = "movielens"
"""
SIDES = {"[query.features]": "user_id", "[item.features]": "item_id"}


def test_the_page_is_what_the_classes_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run `python -m retrieval.runs.recipe_reference > docs/recipe.md` and commit the page"
    )


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_example_is_a_recipe_with_that_kind(kind: str, tmp_path: Path) -> None:
    text = EXAMPLES[kind]
    missing = [f'{side}\n{key} = {{ kind = "categorical" }}\n' for side, key in SIDES.items() if side not in text]
    recipe = parse_recipe(REST + text + "".join(missing), tmp_path / "example.toml")
    kinds = {one.kind for side in ("query", "item") for one in plan(getattr(recipe, side), f"{side}.features")}
    assert kind in kinds or (kind == "sequence" and history_of(recipe.query))


def test_inherited_fields_have_their_docstrings() -> None:
    assert {"name", "fill", "log", "normalise"} <= docs_of(Continuous).keys()
