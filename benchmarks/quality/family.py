"""Every choice of docs/models.md beside the plain towers: recipes/family.toml, three seeds, the same split.

    .venv/bin/python -m benchmarks.quality.family                         what is not measured yet
    .venv/bin/python -m benchmarks.quality.family "plain" "SENet gates" --seeds 42 43 44
    .venv/bin/python -m benchmarks.quality.family --list
    .venv/bin/python -m benchmarks.quality.family --serve                 the time of a request, all choices in turns
    .venv/bin/python -m benchmarks.quality.family --draw                  docs/family.png of what is measured

Entries of `benchmarks/results/family.json` are told apart by choice, recipe and protocol; those measured again are
replaced, the others, which other programs may have written, stay. Towers under `--runs` are kept, so an interrupted
measurement continues; each is a training and an evaluation on features that are made once.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from benchmarks.harness import (
    RESULTS,
    ROOT,
    Parser,
    figure,
    in_turns,
    measured,
    named,
    prepared,
    recipe_of,
    released,
    spread,
    store,
)
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe, load_recipe
from retrieval.report.tables import read_json
from retrieval.runs.stages import protocol
from workflows.files import atomic_directory, atomic_write

PICTURES = ROOT / "docs"
RECIPE = ROOT / "recipes" / "family.toml"
SEEDS = (42, 43, 44)
PLAIN = "plain"
KEY = ("choice", "recipe", "protocol")
FIGURES = tuple(f"{side}.{name}" for side in ("unseen", "all") for name in ("recall@10", "recall@100", "ndcg@10"))
CHOICES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "tower [64]": {"model": {"tower": [64]}},
    "tower [256, 128, 64]": {"model": {"tower": [256, 128, 64]}},
    "cross, stacked": {"model": {"cross": {"layers": 1}}},
    "cross, stacked, rank 16": {"model": {"cross": {"layers": 1, "rank": 16}}},
    "cross, parallel": {"model": {"cross": {"layers": 1, "structure": "parallel"}}},
    "cross, parallel, rank 16": {"model": {"cross": {"layers": 1, "structure": "parallel", "rank": 16}}},
    "SENet gates": {"model": {"gates": {}}},
    "SENet gates, relu": {"model": {"gates": {"activation": "relu"}}},
    "DAT": {"model": {"augmentation": {}}},
    "DAT, categories aligned": {"model": {"augmentation": {"category": "genres"}}},
}
"""What each changes in the recipe; null takes a section away."""
SOURCES = {
    "tower": "Covington et al. 2016",
    "cross": "DCN-v2, Wang et al. 2021",
    "SENet": "Hu et al. 2018; FiBiNET, Huang et al. 2019",
    "DAT": "Yu et al. 2021",
}
"""Where choices come from, by how their names begin."""
PICTURED = ("plain", "tower", "cross")
REQUESTS, TURNS = 100, 10


def main() -> None:
    """Measure the choices and write the results."""
    parser = Parser(__doc__, "family", "family", SEEDS)
    parser.add_argument("choices", nargs="*", help="names of choices; all that have no entry if none is given")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="another recipe, whose features the choices fit")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="only print the choices and what they change")
    instead.add_argument("--serve", action="store_true", help="only time requests, on the first seed's towers")
    instead.add_argument("--draw", action="store_true", help="only draw what is measured")
    options = parser.options()
    if options.quick:
        options.choices = options.choices or [PLAIN]
    with terminal() as out:
        if options.list:
            out.json(CHOICES)
            return
        if not options.serve:
            entries = entries_of(options.recipe, options.out)
            for choice in [] if options.draw else options.choices or [name for name in CHOICES if name not in entries]:
                entry = measure(choice, CHOICES[choice], options, out)
                store(entry, options.out, KEY)
                out.json(entry)
            pictured = [
                pictured_entry
                for name, pictured_entry in entries_of(RECIPE, options.out).items()
                if name.startswith(PICTURED)
            ]
            draw(pictured, picture(options))
        if options.serve or options.quick:
            out.json(time_requests(options, out))


def picture(options: argparse.Namespace) -> Path:
    """Return where a benchmark's picture goes: into docs/ with its usual results, else beside them."""
    name = f"{options.out.stem}.png"
    return PICTURES / name if options.out.parent == RESULTS else options.out.with_name(name)


def made(
    choice: str,
    recipe: Path,
    protocol: str,
    seeds: Sequence[int],
    figures: Mapping[str, Sequence[float]],
    parameters: int | None,
    train_s: Sequence[float],
    serve_p50_ms: float | None = None,
    source: str = "",
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
        CPU seconds of each training, or none: others on the machine do not make them more.
    serve_p50_ms
        The median time of a request, milliseconds; None where it was not measured.
    source
        Where the choice comes from, for the table of docs/models.md, which shows the first two of `figures`.
    """
    return {
        "choice": choice,
        "source": source,
        "recipe": named(recipe),
        "protocol": protocol,
        "seeds": list(seeds),
        "metrics": {name: measured(values) for name, values in figures.items()},
        "parameters": parameters,
        "train_s": spread(train_s)["mean"] if train_s else None,
        "serve_p50_ms": serve_p50_ms,
    }


def measure(choice: str, changes: Mapping[str, Any], options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Train and evaluate the recipe with `changes` once per seed, and return the entry.

    The features are those of the recipe as it is, so that only `[model]` and `[train]` may change.
    """
    recipe = recipe_of(options.recipe, options)
    run = prepared(recipe, options, out)
    changed = with_changes(recipe, changes)
    done = [trained(changed, run.directory, choice, seed, out) for seed in options.seeds]
    metrics = [read_json(towers / "metrics.json") for towers in done]
    figures = {name: [_figure(run, name) for run in metrics] for name in FIGURES}
    best = [_best(towers, f"valid_{changed.train.monitor}") for towers in done]
    figures.update({f"valid.{name}": [epoch[f"valid_{name}"] for epoch in best] for name in FIGURES})
    parameters = read_json(done[0] / "towers.json")["parameters"]
    seconds = [run["cpu_s"] for run in metrics]
    source = next((text for start, text in SOURCES.items() if choice.startswith(start)), "")
    entry = made(choice, options.recipe, protocol(recipe), options.seeds, figures, parameters, seconds, source=source)
    return {**entry, "changes": dict(changes)}


def entries_of(recipe: Path, results: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a recipe by choice, in the order of CHOICES."""
    entries = read_json(results) if results.exists() else []
    by_choice = {entry["choice"]: entry for entry in entries if entry["recipe"] == named(recipe)}
    return {name: by_choice[name] for name in CHOICES if name in by_choice}


def with_changes(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with other values; raise msgspec.ValidationError where they do not fit."""
    return msgspec.convert(_merged(msgspec.to_builtins(recipe), changes), Recipe)


def _merged(plain: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        inner = plain.get(name)
        plain[name] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, dict) else value
    return plain


def trained(recipe: Recipe, run: Path, choice: str, seed: int, out: Terminal, earlier: Any = None) -> Path:
    """Return the towers of a seed with their `metrics.json`, made if they are not there for this very recipe.

    They go on from `earlier`, a `models.training.weights.warm_start.Earlier`, if it is given.
    """
    directory = run / slug(choice) / f"seed-{seed}"
    settings = msgspec.json.encode(msgspec.structs.replace(recipe, seed=seed), order="deterministic")
    record = directory / "recipe.json"
    if record.exists() and record.read_bytes() == settings:
        return directory
    from models.evaluation.stage import evaluate
    from models.training.stage import train
    from workflows.features.stage import load

    out.say(f"{choice}, seed {seed}")
    with atomic_directory(directory) as new:
        data, cpu = load(run / "features"), time.process_time()
        train(data, recipe.model, recipe.train, seed, recipe.device, new, out.step, earlier=earlier)
        cpu = time.process_time() - cpu
        metrics = evaluate(run / "features", new, protocol(recipe), recipe.train.objective.rating)
        atomic_write(new / "metrics.json", json.dumps({**metrics, "cpu_s": cpu}, indent=1).encode())
        atomic_write(new / "recipe.json", settings)
    return directory


def time_requests(options: argparse.Namespace, out: Terminal) -> dict[str, float]:
    """Return and store the median milliseconds of a request by choice: one known user, 100 items, in this process.

    That is all that a server does with it but the network: transform, query tower, exact search, seen items left out.
    Releases of one seed's towers take turns, REQUESTS at a time, so that all see the same machine.
    """
    from retrieval.report.examples import from_release

    run, entries = options.runs / load_recipe(options.recipe).name, entries_of(options.recipe, options.out)
    known = pd.read_parquet(run / "features" / "test" / "interactions.parquet")[["user_id", "timestamp"]][:REQUESTS]
    with tempfile.TemporaryDirectory() as directory:
        calls = {}
        for choice in entries:
            towers, name = run / slug(choice) / f"seed-{options.seeds[0]}", slug(choice)
            ask = from_release(released((run / "features", towers, Path(directory) / name, None), name))
            calls[choice] = partial(lambda ask, row: ask([row[0]], 100, [row[1]]), ask)
        out.step("asking")
        questions = list(known.itertuples(index=False)) * (2 if options.quick else TURNS)
        medians = in_turns(calls, questions, REQUESTS)
    for choice, entry in entries.items():
        store({**entry, "serve_p50_ms": medians[choice]}, options.out, KEY)
    return medians


def draw(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw recall of unseen items by choice: a dot for each seed, the mean, and the plain towers' as a line."""
    names = ("unseen.recall@10", "unseen.recall@100")
    drawing, plots = figure(8, 0.5 + 0.42 * len(entries), *map(title, names))
    for place, (name, axes) in enumerate(zip(names, plots, strict=True)):
        for row, entry in enumerate(reversed(entries)):
            values, colour = entry["metrics"][name]["values"], "C1" if entry["choice"].startswith("cross") else "C0"
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
            axes.plot([entry["metrics"][name]["mean"]], [row], "|", color=colour, markersize=14, markeredgewidth=2)
            if entry["choice"] == PLAIN:
                axes.axvline(entry["metrics"][name]["mean"], color="0.6", linewidth=1, linestyle="--")
        labels = [f"{entry['choice']}, {entry['parameters'] / 1000:,.0f} k" for entry in reversed(entries)]
        axes.set_yticks(range(len(entries)), labels if place == 0 else [])
        axes.set_ylim(-0.6, len(entries) - 0.4)
        axes.grid(visible=False, axis="y")
    drawing.savefig(path, dpi=150)


def title(figure: str) -> str:
    """Return a figure such as `unseen.recall@10` in words."""
    return f"{figure.partition('.')[2]}, unseen items"


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
