"""The earlier run that a recipe goes on from: found, checked, and told apart from others."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from models.training.weights.warm_start_config import WarmStart
from retrieval.recipes.recipe import Recipe
from retrieval.runs.run import Run
from workflows.errors import RecipeError


def from_run(recipe: Recipe, runs: Path, earlier: Path | None) -> Recipe:
    """Return the recipe that goes on from the run in `earlier`, or from its own `train.warm_start.run`. Raise
    RecipeError where that is the one that the recipe makes below `runs`, StageError where there is none finished."""
    if earlier is not None:
        settings = replace(recipe.train.warm_start or WarmStart(), run=str(earlier.expanduser().resolve()))
        recipe = replace(recipe, train=replace(recipe.train, warm_start=settings))
    place = Path(recipe.train.warm_start.run) if recipe.train.warm_start and recipe.train.warm_start.run else None
    if place is not None and place.resolve() == (runs / recipe.name).resolve():
        raise RecipeError(
            f"--from {place}: a run cannot go on from itself, its features and towers would be replaced meanwhile; "
            "write to another directory with --runs, or give the recipe another name"
        )
    _ = Run.create(recipe, runs).earlier  # refused here, before a stage forgets what it has
    return recipe
