"""Going on from an earlier run beside training from zero: MovieLens-100K in order of time, three seeds.

    .venv/bin/python -m benchmarks.quality.warm_start
    .venv/bin/python -m benchmarks.quality.warm_start --seeds 42 --only "from zero" "2 epochs, all"
    .venv/bin/python -m benchmarks.quality.warm_start --draw

An earlier run learns from the first 70 % of the interactions; it knows their users and films alone. All trainings
after it have the first 90 %, the last tenth of that as validation, and are asked for the last 10 %: those of the rows
whose user and film are known by then. The recipe is recipes/movielens-100k-temporal.toml, and for the sake of time
without teachers and titles, with histories of 20 films and larger batches. Runs that go on train exactly so many epochs
(`search = false`), on all interactions or on new ones alone; one searches, as training from zero does.

CPU seconds are those of the stage train: tracing, training, export and its comparison, which the run of 0 epochs has,
too. Results: benchmarks/results/warm_start.json, docs/warm_start.png, and entries of benchmarks/results/family.json.
Towers under --runs are kept, so an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.harness import ROOT, Parser, figure, named, prepared, recipe_of, spread, store, write
from benchmarks.harness import measured as measured_of
from benchmarks.quality import family
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe
from retrieval.report.tables import read_json
from retrieval.runs.stages import protocol
from workflows.config import TemporalSplit
from workflows.tables.store import Tables

RECIPE = ROOT / "recipes" / "movielens-100k-temporal.toml"
CHANGES: dict[str, Any] = {
    "train": {"distillation": None, "batch_size": 2048},
    "query": {"features": {"history": {"last": 20}}},
}
LEFT_OUT = "title"
SEEDS = (42, 43, 44)
EARLIER = 0.7
ZERO, SEARCHED = "from zero", "search, all"
GROUPS = ("user and item known", "user unknown", "all rows")
EPOCHS = {"all": (1, 2, 4), "new": (1, 2, 4)}
CHOICES: dict[str, dict[str, Any] | None] = {
    ZERO: None,
    "0 epochs": {"epochs": 0, "search": False},
    **{
        f"{epochs} epoch{'s' if epochs > 1 else ''}, {rows}": {"epochs": epochs, "search": False, "interactions": rows}
        for rows, counts in EPOCHS.items()
        for epochs in counts
    },
    "0 epochs, attributes": {"epochs": 0, "search": False, "new_rows": "attributes"},
    "2 epochs, new, attributes": {"epochs": 2, "search": False, "interactions": "new", "new_rows": "attributes"},
    SEARCHED: {"epochs": 4},
}
"""What `[train.warm_start]` says; None: nothing, training starts from zero."""


def main() -> None:
    """Measure the choices, write the results and the picture."""
    parser = Parser(__doc__, "warm_start", seeds=SEEDS)
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="CHOICE")
    parser.add_argument("--draw", action="store_true", help="only draw what is measured")
    options = parser.options()
    if options.quick:
        options.only = [ZERO, "1 epoch, new"]
    with terminal() as out:
        if not options.draw:
            recipe = family.with_changes(recipe_of(RECIPE, options), CHANGES)
            features = {name: of for name, of in recipe.item.features.items() if name != LEFT_OUT}
            recipe = replace(recipe, item=replace(recipe.item, features=features))
            prepared_runs = prepare(recipe, options, out)
            measurements = {
                choice: [measured(recipe, options.runs / "warm_start", choice, seed, out) for seed in options.seeds]
                for choice in options.only
            }
            results = summed_up(recipe, prepared_runs, options.seeds, measurements)
            write(options.out, results)
            store_in_family(recipe, options.seeds, measurements, options.out.with_name("family.json"))
            out.json(results)
        draw(read_json(options.out)["choices"], family.picture(options))


def prepare(recipe: Recipe, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Make the features of the earlier run, and those of all tables from zero and grown; return their sizes."""
    from workflows.features.stage import build, load
    from workflows.fitting.warm_start_record import Earlier

    run, runs = prepared(recipe, options, out, "fetch"), options.runs / "warm_start"
    tables = Tables.load(run.directory / "tables")
    then = runs / "earlier" / "features"
    parts = {
        "earlier": (first(tables, EARLIER), TemporalSplit(test=0.01, validation=0.1, asked="known"), None),
        "zero": (tables, recipe.data.split, None),
        "grown": (tables, recipe.data.split, Earlier(then, recipe.query, recipe.item)),
    }
    for name, (rows, split, earlier) in parts.items():
        if not (runs / name / "features").exists():
            (runs / name).mkdir(parents=True, exist_ok=True)
            started = time.process_time()
            build(rows, recipe.query, recipe.item, split, "cpu", runs / name / "features", earlier=earlier)
            out.say(f"{name}: features in {time.process_time() - started:.1f} s of CPU")
    loaded = {name: load(runs / name / "features") for name in parts}
    return {
        name: {
            "train": len(data.train.interactions),
            "valid": len(data.valid.interactions),
            "test": len(data.test.interactions),
            "items": len(data.catalogue),
            "users": int(data.train.interactions["user_id"].nunique()),
        }
        for name, data in loaded.items()
    }


def first(tables: Tables, share: float) -> Tables:
    """Return the first interactions by time, and the users and items that they are of."""
    order = np.argsort(tables.interactions["timestamp"].to_numpy(), kind="stable")
    rows = tables.interactions.iloc[np.sort(order[: round(share * len(order))])].reset_index(drop=True)
    users = tables.users[tables.users["user_id"].isin(rows["user_id"])].reset_index(drop=True)
    items = tables.items[tables.items["item_id"].isin(rows["item_id"])].reset_index(drop=True)
    return Tables(rows, users, items)


def measured(recipe: Recipe, runs: Path, choice: str, seed: int, out: Terminal) -> dict[str, Any]:
    """Return metrics, CPU seconds and epochs of a choice, trained and evaluated if that was not done."""
    from models.training.weights.warm_start import Earlier

    settings = CHOICES[choice]
    if settings is None:
        done = family.trained(recipe, runs / "zero", choice, seed, out)
    else:
        before = family.trained(recipe, runs / "earlier", ZERO, seed, out)
        warm_start = {**settings, "run": before.as_posix()}  # on validation rows, too, which a refit does
        changed = family.with_changes(recipe, {"train": {"refit": True, "warm_start": warm_start}})
        earlier = Earlier(before, recipe.model, recipe.train)
        done = family.trained(changed, runs / "grown", choice, seed, out, earlier)
    towers = read_json(done / "towers.json")
    return {**read_json(done / "metrics.json"), "epochs": towers["epochs"], "parameters": towers["parameters"]}


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return every figure, one value for each seed."""
    sides = {
        f"{side}.{name}": [run[side][name] for run in runs]
        for side in ("all", "unseen")
        for name in ("recall@10", "recall@100", "ndcg@10")
    }
    groups = {
        f"{group}: unseen.{name}": [run["groups"][group]["unseen"][name] for run in runs]
        for group in GROUPS
        if group in runs[0]["groups"]
        for name in ("recall@10", "ndcg@10")
    }
    return {**sides, **groups}


def summed_up(
    recipe: Recipe, sizes: Mapping[str, Any], seeds: Sequence[int], by_choice: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return what warm_start.json holds."""
    return {
        "recipe": named(RECIPE),
        "changes": {**CHANGES, "item": f"without {LEFT_OUT}"},
        "protocol": protocol(recipe),
        "seeds": list(seeds),
        "rows": sizes,
        "choices": {
            choice: {
                "warm_start": CHOICES[choice],
                "cpu_s": spread([run["cpu_s"] for run in of]),
                "epochs": [run["epochs"] for run in of],
                "metrics": {name: measured_of(values) for name, values in figures(of).items()},
            }
            for choice, of in by_choice.items()
        },
    }


def store_in_family(
    recipe: Recipe, seeds: Sequence[int], by_choice: Mapping[str, Sequence[Mapping[str, Any]]], results: Path
) -> None:
    """Write the entries of `family.json`; training from zero is the plain one."""
    for choice, of in by_choice.items():
        name = "plain" if choice == ZERO else f"warm start: {choice}"
        seconds = [run["cpu_s"] for run in of]
        entry = family.made(name, RECIPE, protocol(recipe), seeds, figures(of), of[0]["parameters"], seconds)
        changes = {**CHANGES, "train": {**CHANGES["train"], "warm_start": CHOICES[choice]}}
        store({**entry, "changes": changes}, results, family.KEY)


def draw(choices: Mapping[str, Any], path: Path) -> None:
    """Draw recall over CPU seconds: from zero, and going on with all interactions and with new ones."""
    shown = ("unseen.recall@10", "unseen.ndcg@10")
    drawing, plots = figure(8, 3.6, *map(family.title, shown))
    for name, axes in zip(shown, plots, strict=True):
        for colour, (rows, counts) in zip(("C0", "C1"), EPOCHS.items(), strict=True):
            names = ["0 epochs", *(f"{count} epoch{'s' if count > 1 else ''}, {rows}" for count in counts)]
            points = [
                (choices[choice]["cpu_s"]["mean"], choices[choice]["metrics"][name])
                for choice in names
                if choice in choices
            ]
            axes.errorbar(
                [seconds for seconds, _ in points],
                [metric["mean"] for _, metric in points],
                [metric["sd"] for _, metric in points],
                fmt="o-",
                color=colour,
                capsize=3,
                label=f"going on, {rows} interactions, 0 to {counts[-1]} epochs",
            )
        zero = choices[ZERO]
        seconds, metric = zero["cpu_s"]["mean"], zero["metrics"][name]
        axes.errorbar([seconds], [metric["mean"]], [metric["sd"]], fmt="s", color="0.3", capsize=3, label="from zero")
        axes.axhline(metric["mean"], color="0.6", linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        axes.set_xlabel("CPU seconds of training")
    axes.legend(fontsize=8, loc="lower right")
    drawing.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
