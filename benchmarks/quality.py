"""Every quality figure that the README quotes: recipes trained with several seeds, mean and spread on the test rows.

    .venv/bin/python benchmarks/quality.py                                   all recipes below, three seeds
    .venv/bin/python benchmarks/quality.py recipes/movielens-100k.toml --seeds 42

Entries of `benchmarks/results/quality.json` whose recipe is measured again are replaced; the others stay. Finished runs
under `--runs` are kept, so an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from models.peers.comparison import OURS
from retrieval.console import Terminal, terminal
from retrieval.peers import PEERS
from retrieval.recipe import load_recipe
from retrieval.run import Run, advance
from retrieval.stages import STAGES
from workflows.files import atomic_write
from workflows.sources.download import cache_directory

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
RECIPES = sorted((ROOT / "recipes").glob("movielens-100k*.toml"))


def main() -> None:
    """Measure the recipes and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", type=Path, default=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--peers", action="store_true", help="also popularity, item KNN, EASE and ALS on the same rows")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "quality")
    arguments = parser.parse_args()
    with terminal() as out:
        for recipe in arguments.recipes:
            entry = measure(recipe, arguments.seeds, arguments.runs, out)
            if arguments.peers:
                entry["peers"] = peers(arguments.runs / f"{load_recipe(recipe).name}-seed{arguments.seeds[0]}", out)
            store(entry)
            out.json(entry)


def measure(path: Path, seeds: list[int], runs: Path, out: Terminal) -> dict[str, Any]:
    """Train and evaluate a recipe once per seed; the split stays the recipe's.

    `metrics` are of the rows that the recipe's split asks for. `groups` are kinds of test rows, whether it asks for
    them or not: their number, and the means of figures among unseen items, of the towers and of popularity.
    """
    figures = []
    for seed in seeds:
        recipe = load_recipe(path)
        recipe = replace(recipe, name=f"{recipe.name}-seed{seed}", seed=seed)
        run = Run.create(recipe, runs, STAGES)
        out.say(f"{path.name}, seed {seed}")
        advance(run, ["fetch", "features", "train", "evaluate"], cache_directory(), out)
        figures.append(json.loads((run.directory / "metrics.json").read_text(encoding="utf-8")))
    names = [(side, name) for side in ("all", "unseen") for name in figures[0][side]]
    metrics = {f"{side}.{name}": spread([one[side][name] for one in figures]) for side, name in names}
    return {
        "recipe": path.resolve().relative_to(ROOT).as_posix(),
        "protocol": figures[0]["protocol"],
        "rows": figures[0]["rows"],
        "items": figures[0]["items"],
        "seeds": seeds,
        "metrics": metrics,
        "groups": {name: group([one["groups"][name] for one in figures]) for name in figures[0]["groups"]},
    }


def group(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows, users and mean figures of a kind of rows; `seeds` is what each run measured of it."""

    def means(side: str) -> dict[str, float]:
        return {name: statistics.fmean(one[side][name] for one in seeds) for name in seeds[0][side]}

    return {"rows": seeds[0]["rows"], "users": seeds[0]["users"], **{s: means(s) for s in ("unseen", "popularity")}}


def peers(run: Path, out: Terminal) -> dict[str, dict[str, float]]:
    """Return the peers' figures on the test rows of a run, by name."""
    advance(Run.open(run, (*STAGES, PEERS)), ["peers"], cache_directory(), out)
    models = json.loads((run / "peers.json").read_text(encoding="utf-8"))["models"]
    return {
        model["name"]: {f"{side}.{name}": model[side][name] for side in ("all", "unseen") for name in model[side]}
        for model in models
        if model["name"] != OURS and "skipped" not in model
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return mean and sample standard deviation."""
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def measured(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation of a figure, and its value for each seed."""
    return {**spread(list(values)), "values": list(values)}


def store(entry: dict[str, Any], results: Path = RESULTS, key: Sequence[str] = ("recipe",)) -> None:
    """Replace the entry of the same `key` in the results; another process that does so for its own waits meanwhile."""
    directory = os.open(results.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        _replace(entry, results, key)
    finally:
        os.close(directory)


def _replace(entry: dict[str, Any], results: Path, key: Sequence[str]) -> None:
    def name(one: dict[str, Any]) -> list[str]:
        return [one[part] for part in key]

    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    entries = [one for one in kept if name(one) != name(entry)] + [entry]
    atomic_write(results, (json.dumps(sorted(entries, key=name), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
