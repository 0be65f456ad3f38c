"""Every choice of docs/models.md beside the plain towers: recipes/family.toml, three seeds, the same split.

    .venv/bin/python benchmarks/family.py                                  what is not measured yet
    .venv/bin/python benchmarks/family.py "plain" "SENet gates" --seeds 42 43 44
    .venv/bin/python benchmarks/family.py --list

Entries of `benchmarks/results/family.json` are told apart by choice, recipe and protocol; those measured again are
replaced, the others, which other programs may have written, stay. Towers under `--runs` are kept, so an interrupted
measurement continues; each is a training and an evaluation on features that are made once.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import quality

from retrieval.console import Terminal, terminal
from retrieval.recipe import Recipe, load_recipe
from retrieval.run import Run, advance
from retrieval.stages import STAGES, protocol
from retrieval.tables import read_json
from workflows.files import atomic_directory, atomic_write
from workflows.sources.download import cache_directory

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "family.json"
RUNS = ROOT / "runs" / "family"
RECIPE = ROOT / "recipes" / "family.toml"
SEEDS = (42, 43, 44)
PLAIN = "plain"
KEY = ("choice", "recipe", "protocol")
FIGURES = tuple(f"{side}.{name}" for side in ("all", "unseen") for name in ("recall@10", "recall@100", "ndcg@10"))
CHOICES: dict[str, dict[str, Any]] = {PLAIN: {}}
"""What each changes in the recipe: `{"model": {"tower": [64]}}`; null takes a section away."""


def main() -> None:
    """Measure the choices and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choices", nargs="*", help="names of choices; all that have no entry if none is given")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--list", action="store_true", help="only print the choices and what they change")
    given = parser.parse_args()
    with terminal() as out:
        if given.list:
            out.json(CHOICES)
            return
        stored = {one["choice"] for one in read_json(RESULTS)} if RESULTS.exists() else set()
        for choice in given.choices or [name for name in CHOICES if name not in stored]:
            entry = measure(choice, RECIPE, CHOICES[choice], given.seeds, given.runs, out)
            store(entry)
            out.json(entry)


def store(entry: Mapping[str, Any]) -> None:
    """Replace the entry of this choice, recipe and protocol in `family.json`; see `made` for what is in one."""
    quality.store(dict(entry), RESULTS, KEY)


def made(
    choice: str,
    recipe: Path,
    protocol: str,
    seeds: Sequence[int],
    figures: Mapping[str, Sequence[float]],
    parameters: int | None,
    train_s: Sequence[float],
    serve_p50_ms: float | None = None,
) -> dict[str, Any]:
    """Return an entry.

    Parameters
    ----------
    choice
        Its name, as docs/models.md has it.
    recipe
        The recipe's file.
    protocol
        In words, what the figures are measured on; among entries of one recipe and protocol each compares with `plain`.
    figures
        By name one value for each seed; names that start with `valid.` are of the validation part.
    parameters
        How many numbers are trained.
    train_s
        Seconds of each training, or none.
    serve_p50_ms
        The median time of a request, milliseconds; None where it was not measured, or is that of the plain towers.
    """
    return {
        "choice": choice,
        "recipe": recipe.resolve().relative_to(ROOT).as_posix(),
        "protocol": protocol,
        "seeds": list(seeds),
        "metrics": {name: {**quality.spread(list(values)), "values": list(values)} for name, values in figures.items()},
        "parameters": parameters,
        "train_s": quality.spread(list(train_s))["mean"] if train_s else None,
        "serve_p50_ms": serve_p50_ms,
    }


def measure(
    choice: str, path: Path, changes: Mapping[str, Any], seeds: Sequence[int], runs: Path, out: Terminal
) -> dict[str, Any]:
    """Train and evaluate a recipe with `changes` once per seed, and return the entry.

    The features are those of the recipe as it is, so that only `[model]` and `[train]` may change.
    """
    recipe = load_recipe(path)
    run = Run.create(recipe, runs, STAGES)
    advance(run, ["fetch", "features"], cache_directory(), out)
    changed = with_changes(recipe, changes)
    done = [trained(changed, run.directory, choice, seed, out) for seed in seeds]
    found = [read_json(one / "metrics.json") for one in done]
    figures = {name: [_figure(one, name) for one in found] for name in FIGURES}
    best = [_best(one, f"valid_{changed.train.monitor}") for one in done]
    figures.update({f"valid.{name}": [one[f"valid_{name}"] for one in best] for name in FIGURES})
    parameters = read_json(done[0] / "towers.json")["parameters"]
    seconds = [read_json(one / "cost.json")["seconds"] for one in done]
    return {**made(choice, path, protocol(recipe), seeds, figures, parameters, seconds), "changes": dict(changes)}


def with_changes(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values; raise msgspec.ValidationError where they do not fit."""
    return msgspec.convert(_merged(msgspec.to_builtins(recipe), changes), Recipe)


def _merged(plain: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        inner = plain.get(name)
        plain[name] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, dict) else value
    return plain


def trained(recipe: Recipe, run: Path, choice: str, seed: int, out: Terminal) -> Path:
    """Return the towers of a seed with their `metrics.json`, made if they are not there for this very recipe."""
    directory = run / slug(choice) / f"seed-{seed}"
    settings = msgspec.json.encode(msgspec.structs.replace(recipe, seed=seed), order="deterministic")
    kept = directory / "recipe.json"
    if kept.exists() and kept.read_bytes() == settings:
        return directory
    from models.evaluation import evaluate
    from models.training import train
    from workflows.features import load

    out.say(f"{choice}, seed {seed}")
    with atomic_directory(directory) as new:
        train(load(run / "features"), recipe.model, recipe.train, seed, recipe.device, new, out.step)
        metrics = evaluate(run / "features", new, protocol(recipe), recipe.train.objective.rating)
        atomic_write(new / "metrics.json", json.dumps(metrics, indent=1).encode())
        atomic_write(new / "recipe.json", settings)
    return directory


def slug(choice: str) -> str:
    """Return a choice's name as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", choice.lower()).strip("-")


def _figure(metrics: Mapping[str, Any], name: str) -> float:
    side, _, key = name.partition(".")
    return float(metrics[side][key])


def _best(towers: Path, monitored: str) -> dict[str, float]:
    return dict(max(read_json(towers / "history.json"), key=lambda epoch: epoch[monitored]))


if __name__ == "__main__":
    main()
