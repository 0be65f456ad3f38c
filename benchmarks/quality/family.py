"""Every choice of docs/models.md beside the plain run of its recipe, by several seeds on the same split.

    .venv/bin/python -m benchmarks.quality.family                         what has no entry yet
    .venv/bin/python -m benchmarks.quality.family ranking --seeds 42      the choices of one study that have none
    .venv/bin/python -m benchmarks.quality.family --only "SENet gates"    once more
    .venv/bin/python -m benchmarks.quality.family --serve                 the time of a request, choices in turns
    .venv/bin/python -m benchmarks.quality.family --draw                  docs/family-STUDY.png of what is measured

Studies and their choices are in benchmarks/quality/studies.py. Entries of
`benchmarks/results/family.json` are told apart by choice, recipe and protocol; those measured again are replaced, the
others, which other programs may have written, stay. A choice's run begins as a copy of the plain one, so that only the
stages that it changes run; runs under `--runs` are kept, so an interrupted measurement continues. Training is in CPU
seconds, of a ranker those of the ranker alone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
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
    store,
)
from benchmarks.quality.studies import PLAIN, SOURCES, STUDIES, Changes, Study, first_rows
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe, load_recipe, with_peers
from retrieval.report.tables import read_json
from retrieval.runs.run import Run
from retrieval.runs.stages import protocol

SEEDS = (42, 43, 44)
PICTURES = ROOT / "docs"
KEY = ("choice", "recipe", "protocol")
FIGURES = ("recall@10", "recall@100", "ndcg@10")
DRAWN, OFF_SCALE = ("towers", "stars", "warm-start", "ranking"), "SENet gates, relu"
"""Studies with a picture in docs/models.md, and a choice that is left out of it."""
REQUESTS, TURNS = 100, 10


def main() -> None:
    """Measure the choices and write the results."""
    parser = Parser(__doc__, "family", "family", SEEDS)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--only", nargs="+", metavar="CHOICE", help="these choices, measured or not")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--serve", action="store_true", help="only time requests, on the first seed's runs")
    instead.add_argument("--draw", action="store_true", help="only draw what is measured")
    options = parser.options()
    studies = [STUDIES[name] for name in options.studies or STUDIES]
    with terminal() as out:
        for study in [] if options.serve or options.draw else studies:
            for choice in due(study, options):
                entry = measure(study, choice, options, out)
                store(entry, options.out, KEY)
                out.json(entry)
        for study in studies if options.serve or options.quick else []:
            if study.timed:
                out.json(time_requests(study, options, out))
    for name in DRAWN:
        known = entries_of(STUDIES[name], options.out)
        drawn = [entry for choice, entry in known.items() if choice != OFF_SCALE]
        draw(drawn, (PICTURES if options.out.parent == RESULTS else options.out.parent) / f"family-{name}.png")


def due(study: Study, options: argparse.Namespace) -> list[str]:
    """Return the choices to measure: those asked for, or those without an entry; with `--quick` one beside plain."""
    names = list(study.choices)
    if options.quick:
        return names[1:2]
    known = entries_of(study, options.out)
    return [name for name in names if (name in options.only if options.only else name not in known)]


def measure(study: Study, choice: str, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Train and evaluate a choice once per seed, and return its entry."""
    runs = [run_of(study, choice, seed, options, out) for seed in options.seeds]
    figures, recipe = list(map(figures_of, runs)), runs[0].recipe
    parameters = [read_json(runs[0].towers / "towers.json")["parameters"]]
    if recipe.ranking:
        parameters.append(read_json(runs[0].ranker / "params.json")["parameters"])
    trained = "rank" if recipe.ranking else "train"
    return {
        "choice": choice,
        "source": next((source for part, source in SOURCES.items() if part in choice), ""),
        "recipe": named(_path(study)),
        "protocol": _protocol(study, recipe),
        "seeds": list(options.seeds),
        "metrics": {name: measured([of_seed[name] for of_seed in figures]) for name in figures[0]},
        "parameters": sum(parameters),
        "train_s": statistics.fmean(read_json(run.directory / f"cpu-{trained}.json") for run in runs),
        "serve_p50_ms": None,
        "changes": study.choices[choice],
    }


def run_of(study: Study, choice: str, seed: int, options: argparse.Namespace, out: Terminal) -> Run:
    """Return the run of a choice, trained and evaluated unless it is there."""
    recipe = _named(with_changes(_plain(study, options), study.choices[choice]), study, choice, seed)
    out.say(recipe.name)
    if recipe.train.warm_start:
        earlier = _earlier(study, seed, options, out)
        recipe = with_changes(recipe, {"train": {"warm_start": {"run": earlier.directory.as_posix()}}})
    place, first = options.runs / recipe.name, options.seeds[0]
    if (choice, seed) != (PLAIN, first) and not place.exists():
        alike = run_of(study, PLAIN, first if choice == PLAIN else seed, options, out)
        shutil.copytree(alike.directory, place)
    return prepared(recipe, options, out, "fetch", "features", "train", "rank", "evaluate", change=study.tables)


def _earlier(study: Study, seed: int, options: argparse.Namespace, out: Terminal) -> Run:
    """Return the run of the first rows, that a warm start goes on from."""
    recipe = with_changes(_plain(study, options), {"data": {"split": {"test": 0.01}}})
    recipe = _named(recipe, study, "earlier", seed)
    return prepared(recipe, options, out, "fetch", "features", "train", change=first_rows)


def _plain(study: Study, options: argparse.Namespace) -> Recipe:
    return with_changes(with_peers(recipe_of(_path(study), options), "none"), study.all_change)


def _path(study: Study) -> Path:
    return ROOT / "recipes" / f"{study.recipe}.toml"


def _protocol(study: Study, recipe: Recipe) -> str:
    return protocol(recipe) + study.asked


def _named(recipe: Recipe, study: Study, choice: str, seed: int) -> Recipe:
    name = f"{study.recipe}{'-events' if study.tables else ''}-{slug(choice)}-seed{seed}"
    return msgspec.structs.replace(recipe, name=name, seed=seed)


def with_changes(recipe: Recipe, changes: Changes) -> Recipe:
    """Return the recipe with other values; raise msgspec.ValidationError where they do not fit."""
    return msgspec.convert(_merged(msgspec.to_builtins(recipe), changes), Recipe)


def _merged(plain: dict[str, Any], changes: Changes) -> dict[str, Any]:
    for name, value in changes.items():
        inner = plain.get(name)
        if value is None:
            plain.pop(name, None)
        else:
            plain[name] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, dict) else value
    return plain


def figures_of(run: Run) -> dict[str, float]:
    """Return the figures of one run: of the rows asked for, of kinds of events, of ratings, and `valid.*`.

    `all.*` and `unseen.*` are of the kind of event asked for where there are several. `KIND.served` and `KIND.own` are
    recall@10 among all items by the vector that is served and by the kind's own head.
    """
    metrics, history = read_json(run.metrics), read_json(run.towers / "history.json")
    tasks: dict[str, Any] = metrics.get("tasks", {})
    by_kind = tasks.get("events", {})
    asked = by_kind[tasks["served"]]["served"] if by_kind else metrics
    figures = {f"{side}.{name}": asked[side][name] for side in ("unseen", "all") for name in FIGURES}
    for kind, heads in by_kind.items():
        figures |= {f"{kind}.{head}": heads[head]["all"]["recall@10"] for head in ("served", "own") if head in heads}
    if "rating" in tasks:
        figures |= {f"{what}.rmse": tasks["rating"][what]["rmse"] for what in ("head", "biases")}
    figures |= {f"learned.{term}": weight for term, weight in tasks.get("weights", {}).items()}
    monitored = f"valid_{run.recipe.train.monitor}"
    best: dict[str, float] = max(history, key=lambda epoch: epoch.get(monitored, 0.0), default={})
    return figures | {name.replace("valid_", "valid."): best[name] for name in best if name.startswith("valid_")}


def entries_of(study: Study, results: Path) -> dict[str, dict[str, Any]]:
    """Return a study's entries by choice, in the order of its choices."""
    entries = read_json(results) if results.exists() else []
    by_choice = {
        entry["choice"]: entry
        for entry in entries
        if (entry["recipe"], entry["protocol"]) == (named(_path(study)), _protocol(study, load_recipe(_path(study))))
    }
    return {name: by_choice[name] for name in study.choices if name in by_choice}


def time_requests(study: Study, options: argparse.Namespace, out: Terminal) -> dict[str, float]:
    """Return and store the median milliseconds of a request by choice: one known user, 100 items, in this process.

    That is all that a server does with it but the network: transform, query tower, exact search, seen items left out,
    ranker. Releases of one seed's towers take turns, REQUESTS at a time, so that all see the same machine.
    """
    from retrieval.report.examples import from_release

    entries = entries_of(study, options.out)
    runs = {choice: run_of(study, choice, options.seeds[0], options, out) for choice in entries}
    features = next(iter(runs.values())).features
    rows = pd.read_parquet(features / "test" / "interactions.parquet")[["user_id", "timestamp"]][:REQUESTS]
    with tempfile.TemporaryDirectory() as directory:
        calls = {}
        for choice, run in runs.items():
            parts = run.features, run.towers, Path(directory) / slug(choice), run.ranker if run.recipe.ranking else None
            ask = from_release(released(parts, run.recipe.name))
            calls[choice] = partial(lambda ask, row: ask([row[0]], 100, [row[1]]), ask)
        out.step("asking")
        questions = list(rows.itertuples(index=False)) * (2 if options.quick else TURNS)
        medians = in_turns(calls, questions, REQUESTS)
    for choice, entry in entries.items():
        store({**entry, "serve_p50_ms": medians[choice]}, options.out, KEY)
    return medians


def draw(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw recall of unseen items by choice: a dot for each seed, the mean, and the plain towers' as a line."""
    names = ("unseen.recall@10", "unseen.recall@100")
    drawing, plots = figure(
        8, 0.5 + 0.42 * len(entries), *(f"{name.partition('.')[2]}, unseen items" for name in names)
    )
    for place, (name, axes) in enumerate(zip(names, plots, strict=True)):
        for row, entry in enumerate(reversed(entries)):
            values, colour = entry["metrics"][name]["values"], f"C{int(entry['choice'] != PLAIN)}"
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
            axes.plot([entry["metrics"][name]["mean"]], [row], "|", color=colour, markersize=14, markeredgewidth=2)
            if entry["choice"] == PLAIN:
                axes.axvline(entry["metrics"][name]["mean"], color="0.6", linewidth=1, linestyle="--")
        labels = [f"{entry['choice']}, {entry['parameters'] / 1000:,.0f} k" for entry in reversed(entries)]
        axes.set_yticks(range(len(entries)), labels if place == 0 else [])
        axes.set_ylim(-0.6, len(entries) - 0.4)
        axes.grid(visible=False, axis="y")
    drawing.savefig(path, dpi=150)


def slug(choice: str) -> str:
    """Return a choice's name as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", choice.lower()).strip("-")


if __name__ == "__main__":
    main()
