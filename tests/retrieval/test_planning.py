"""A plan counts what is then built, and what it says would help does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import Model, Train
from retrieval.commands.start.plan import parse_size
from retrieval.plan.cost import estimated, plan
from retrieval.plan.levers import Setup, advise
from retrieval.plan.parameters import parameters, total
from retrieval.plan.probe import synthetic
from retrieval.plan.shapes import Shapes, Sizes, shapes_of
from retrieval.recipes.recipe import Recipe, load_recipe
from workflows.errors import RecipeError

RECIPES = Path(__file__).parents[2] / "recipes"
HERE_NOT = Path("no-such-run")

COLUMN = st.one_of(
    st.builds(dict, kind=st.just("categorical"), max_size=st.integers(1, 40)),
    st.builds(dict, kind=st.just("categorical"), hash_buckets=st.integers(1, 40)),
    st.builds(dict, kind=st.just("continuous")),
    st.builds(dict, kind=st.just("bucketized"), buckets=st.integers(2, 40)),
    st.builds(dict, kind=st.just("multi-hot"), max_size=st.integers(1, 40), max_length=st.integers(1, 5)),
    st.builds(dict, kind=st.just("multi-hot"), max_size=st.integers(1, 40), weights=st.just("w")),
    st.builds(dict, kind=st.just("time"), part=st.sampled_from(["hour", "month"]), cyclic=st.booleans()),
    st.builds(dict, kind=st.just("cross"), of=st.just(["a", "b"]), max_size=st.integers(1, 40)),
    st.builds(dict, kind=st.just("categorical"), max_size=st.integers(1, 40), vocabulary=st.just("v")),
    st.builds(dict, kind=st.just("text"), max_tokens=st.integers(1, 40), max_length=st.integers(1, 5)),
)
SIDES = st.lists(COLUMN, min_size=1, max_size=3)


@st.composite
def recipes(draw: Any) -> Recipe:
    query = {"user_id": {"kind": "categorical"}} if draw(st.booleans()) else {}
    query |= {f"q{number}": feature for number, feature in enumerate(draw(SIDES))}
    if draw(st.booleans()):
        query["history"] = {"kind": "sequence", "last": draw(st.integers(1, 6))}
    model = {
        "tower": draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)),
        "embedding_dim": draw(st.integers(1, 24)),
        "hidden_dropout": draw(st.sampled_from([0.0, 0.3])),
        "history_decay_seconds": draw(st.sampled_from([[], [30.0], [3.0, 600.0]])),
        "similarity": draw(st.sampled_from(["cosine", "dot"])),
        "learn_temperature": draw(st.booleans()),
    }
    item = {f"i{number}": feature for number, feature in enumerate(draw(SIDES))}
    if draw(st.booleans()):
        structures = ["stacked", "parallel"] if len(model["tower"]) > 1 else ["stacked"]
        rank = draw(st.sampled_from([None, 3]))
        model["cross"] = {"layers": 2, "structure": draw(st.sampled_from(structures)), "rank": rank, "towers": ["item"]}
    if draw(st.booleans()):
        model["gates"] = {"reduction": draw(st.integers(1, 3))}
    if "user_id" in query and draw(st.booleans()):
        model["augmentation"] = {"query": "user_id", "item": "item_id"}
        item["item_id"] = {"kind": "categorical"}
    document = {"name": "drawn", "data": {"source": "movielens"}, "model": model}
    return msgspec.convert({**document, "query": {"features": query}, "item": {"features": item}}, Recipe)


@given(recipes(), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=10)
def test_as_many_parameters_are_foretold_as_are_built(recipe: Recipe, users: int, items: int) -> None:
    from models.data import with_history
    from models.towers.two_tower import TwoTowerModel
    from models.training.cost import parameters as built

    shapes = shapes_of(recipe, HERE_NOT, Sizes(20, users, items))
    data = synthetic(shapes)
    model = TwoTowerModel(data.query_specs, data.item_specs, data.items, recipe.model)
    model.query_vectors(with_history(data.train, data.query_specs).query)
    model.item_vectors()
    foretold = parameters(shapes.query, shapes.item, recipe.model)
    assert foretold == built(model)
    assert total(foretold, recipe.model) == sum(int(var.shape.num_elements()) for var in model.trainable_variables)


def test_tables_and_features_give_the_shapes_that_the_stage_makes(
    tiny: Path, mistaken: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    recipe, run = load_recipe(tiny), tmp_path / "runs" / "tiny"
    before = shapes_of(recipe, run)
    assert mistaken("features", tiny, "--runs", run.parent).returncode == 0
    after = shapes_of(recipe, run)
    assert (before.origin, after.origin) == ("tables", "features")
    for name in ("query", "item", "rows", "users", "items"):
        assert getattr(before, name) == getattr(after, name)
    capfd.readouterr()
    done = mistaken("plan", tiny, "--runs", run.parent, "--memory", "100MB", "--measure", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(capfd.readouterr().out)
    stage = report["training"]
    assert report["parameters"]["total"] == total(parameters(after.query, after.item, recipe.model), recipe.model)
    assert stage["peak"] > stage["base"] > stage["imports"] > 100e6  # TensorFlow alone is more
    assert stage["seconds_per_epoch"] > 0
    assert not report["budget"]["fits"]


def test_what_is_estimated_from_the_sizes_is_near_what_was_measured() -> None:
    """On the machine of `benchmarks/results/plan.json`."""
    results = json.loads((RECIPES.parent / "benchmarks/results/plan.json").read_bytes())
    for measured in results["recipes"]:
        recipe = load_recipe(RECIPES / f"{measured['recipe']}.toml")
        shapes = shapes_of(recipe, HERE_NOT)
        estimate = plan(recipe, shapes, estimated(recipe, shapes, results["product_seconds"]))["training"]
        assert estimate["peak"] == pytest.approx(1e6 * measured["peak_mb"]["measured"], rel=0.2)
        assert estimate["seconds_per_epoch"] == pytest.approx(measured["seconds_per_epoch"]["measured"], rel=0.4)


@st.composite
def setups(draw: Any) -> Setup:
    recipe = load_recipe(RECIPES / f"movielens-100k{draw(st.sampled_from(['', '-best', '-user', '-temporal']))}.toml")
    users, items = draw(st.integers(100, 2_000_000)), draw(st.integers(100, 2_000_000))
    return Setup(shapes_of(recipe, HERE_NOT, Sizes(20 * users, users, items)), recipe.model, recipe.train)


@given(setups(), st.floats(0.01, 1.5))
@settings(max_examples=15)
def test_what_is_advised_fits_or_nothing_is_left_to_do(setup: Setup, share: float) -> None:
    base = 700_000_000
    peak = base + setup.counted
    budget = int(peak * share)
    advice = advise(setup, base, budget)
    assert advice.peak == peak
    assert advice.fits == (peak <= budget)
    assert (advice.together == []) == (advice.fits or advice.peak_together == peak)
    assert advice.peak_together <= peak
    assert all(lever.saves > 0 for lever in advice.levers)
    if advice.peak_together > budget:  # then a smaller budget gets no further either
        assert advise(setup, base, budget // 2).peak_together == advice.peak_together


def test_a_lever_saves_what_a_recipe_with_that_change_takes_less() -> None:
    recipe = load_recipe(RECIPES / "movielens-100k-user.toml")
    shapes = shapes_of(recipe, HERE_NOT, Sizes(5_000_000, 50_000, 20_000))
    before = Setup(shapes, recipe.model, recipe.train)
    levers = {lever.change: lever.saves for lever in advise(before, 0, 0).levers}
    changed: dict[str, tuple[Model, Train]] = {
        "train.batch_size = 512": (recipe.model, msgspec.structs.replace(recipe.train, batch_size=512)),
        "train.distillation = none": (recipe.model, msgspec.structs.replace(recipe.train, distillation=None)),
        "train.refit = false": (recipe.model, msgspec.structs.replace(recipe.train, refit=False)),
    }
    for change, (model, train) in changed.items():
        assert levers.get(change, 0) == before.counted - Setup(shapes, model, train).counted


def test_a_source_of_unknown_size_is_asked_for_it() -> None:
    recipe = load_recipe(RECIPES / "movielens-100k.toml")
    assert shapes_of(recipe, HERE_NOT).rows == {"train": 72_000, "valid": 8_000, "test": 20_000}
    playlists = load_recipe(RECIPES / "playlists.toml")
    with pytest.raises(RecipeError, match="--rows"):
        shapes_of(playlists, HERE_NOT)
    assert isinstance(shapes_of(playlists, HERE_NOT, Sizes(1000, 50, 100)), Shapes)


def test_sizes_of_memory_are_read_as_people_write_them() -> None:
    assert [parse_size(text) for text in ("8GB", "512MiB", "1.5g", "100")] == [8 * 10**9, 2**29, 15 * 10**8, 100]
    with pytest.raises(RecipeError, match="8GB"):
        parse_size("eight")
