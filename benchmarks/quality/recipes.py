"""Every quality figure that the README quotes: recipes trained with several seeds, mean and spread on the test rows.

    .venv/bin/python -m benchmarks.quality.recipes                                   all recipes below, three seeds
    .venv/bin/python -m benchmarks.quality.recipes recipes/movielens-100k.toml --seeds 42

Entries of `benchmarks/results/recipes.json` whose recipe is measured again are replaced; the others stay. Finished runs
under `--runs` are kept, so an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, get_args

from msgspec.structs import replace

from benchmarks.harness import ROOT, Parser, named, prepared, recipe_of, spread, store
from models.baselines.comparison import OURS
from models.evaluation.config import PeerName
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import with_peers
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from workflows.sources.download import cache_directory

RECIPES = sorted((ROOT / "recipes").glob("movielens-100k*.toml"))
QUICK = ROOT / "recipes" / "movielens-100k.toml"


def main() -> None:
    """Measure the recipes and write the results."""
    parser = Parser(__doc__, "recipes", "quality", (42, 43, 44))
    parser.add_argument("recipes", nargs="*", type=Path, default=RECIPES)
    parser.add_argument("--peers", action="store_true", help="also popularity, item KNN, EASE and ALS on the same rows")
    options = parser.options()
    with terminal() as out:
        for recipe in [QUICK] if options.quick else options.recipes:
            entry = measure(recipe, options, out)
            if options.peers:
                entry["peers"] = peers(run_of(recipe, options.seeds[0], options, out).directory, out)
            store(entry, options.out, ["recipe"])
            out.json(entry)


def run_of(path: Path, seed: int, options: argparse.Namespace, out: Terminal) -> Run:
    """Return the run of a recipe with a seed, trained and evaluated; the split stays the recipe's."""
    recipe = with_peers(recipe_of(path, options), "none")
    out.say(f"{path.name}, seed {seed}")
    recipe = replace(recipe, name=f"{recipe.name}-seed{seed}", seed=seed)
    return prepared(recipe, options, out, "fetch", "features", "train", "evaluate")


def measure(path: Path, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Train and evaluate a recipe once per seed.

    `metrics` are of the rows that the recipe's split asks for. `groups` are kinds of test rows, whether it asks for
    them or not: their number, and the means of figures among unseen items, of the towers and of popularity.
    """
    runs = [run_of(path, seed, options, out).directory for seed in options.seeds]
    figures = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    names = [(side, name) for side in ("all", "unseen") for name in figures[0][side]]
    metrics = {f"{side}.{name}": spread([seed_figures[side][name] for seed_figures in figures]) for side, name in names}
    return {
        "recipe": named(path),
        "protocol": figures[0]["protocol"],
        "rows": figures[0]["rows"],
        "items": figures[0]["items"],
        "seeds": options.seeds,
        "metrics": metrics,
        "groups": {
            name: group([seed_figures["groups"][name] for seed_figures in figures]) for name in figures[0]["groups"]
        },
    }


def group(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows, users and mean figures of a kind of rows; `seeds` is what each run measured of it."""

    def means(side: str) -> dict[str, float]:
        return {name: statistics.fmean(seed_figures[side][name] for seed_figures in seeds) for name in seeds[0][side]}

    return {"rows": seeds[0]["rows"], "users": seeds[0]["users"], **{s: means(s) for s in ("unseen", "popularity")}}


def peers(run: Path, out: Terminal) -> dict[str, dict[str, float]]:
    """Return the peers' figures on the test rows of a run, by name."""
    opened = Run.open(run, STAGES)
    opened = opened.with_recipe(with_peers(opened.recipe, ",".join(get_args(PeerName))), STAGES)
    advance(opened, ["peers", "evaluate"], cache_directory(), out)
    models = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["comparison"]["models"]
    return {
        model["name"]: {f"{side}.{name}": model[side][name] for side in ("all", "unseen") for name in model[side]}
        for model in models
        if model["name"] != OURS and "skipped" not in model
    }


if __name__ == "__main__":
    main()
