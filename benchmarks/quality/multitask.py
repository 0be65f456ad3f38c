"""Retrieval and ratings, and events of several kinds, learned over shared towers: figures over the weight from 0 to 1.

    .venv/bin/python -m benchmarks.quality.multitask                 all of it, three seeds
    .venv/bin/python -m benchmarks.quality.multitask rating --seeds 42
    .venv/bin/python -m benchmarks.quality.multitask --draw          the picture and family.json from what is there

Writes benchmarks/results/multitask.json and multitask.png, and entries of family.json. Three experiments:

rating   recipes/family.toml: the share of the loss that is the rating's. 1 is chosen by the ratings' own validation.
stars    the same ratings as events: five stars, 21 % of the rows, are what is asked for, and the weight is that of all
         others: 0 is five stars alone, 1 without heads is the plain towers.
shop     recipes/events.toml, made-up views, clicks and purchases: the weight of views and clicks.

Towers under `--runs` are kept, so an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import ROOT, Parser, figure, measured, named, prepared, recipe_of, spread, store
from benchmarks.quality import family
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe
from retrieval.report.tables import read_json
from retrieval.runs.stages import protocol

EVENTS = ROOT / "recipes" / "events.toml"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN = {"rating": "unseen.recall@10", "stars": "unseen.recall@10", "shop": "all.recall@10"}
"""People buy what they have viewed, but do not rate a film twice."""
BELOW: dict[str, Any] = {
    "fontsize": 8,
    "frameon": False,
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.16),
    "ncols": 3,
}
WORDS = {"stars": ("films of five stars", "films of fewer stars"), "shop": ("purchases", "views and clicks")}
"""What is asked for, and what is frequent."""
TITLES = {
    "rating": "MovieLens-100K: retrieval and rating",
    **{name: f"{kind.capitalize()}, learned with {dense}" for name, (kind, dense) in WORDS.items()},
}
IN_FAMILY = (0.25, 0.5, None)
"""Weights whose figures family.json has, too."""
QUICK = ["rating, weight 0.5", "shop, weight 0.25"]
STARS = ("one to three", "four", "five")
RATES = {"head.rmse": ("rating", "head", "rmse"), "biases.rmse": ("rating", "biases", "rmse")}


class Setting(NamedTuple):
    """One line of the results, to be measured with every seed."""

    experiment: str
    name: str
    line: str
    """Which line of the picture it is on."""
    weight: float | None
    """None: the weights are learned."""
    changes: dict[str, Any]
    """Of the recipe."""


def main() -> None:
    """Measure, write the results and draw them."""
    parser = Parser(__doc__, "multitask", "family", family.SEEDS)
    parser.add_argument("experiments", nargs="*", help="rating, stars, shop; all of them if none is given")
    parser.add_argument("--only", nargs="+", help="names of settings, as multitask.json has them")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.options()
    if options.quick:
        options.only = options.only or QUICK
    with terminal() as out:
        for setting in [] if options.draw else settings():
            selected = setting.experiment in (options.experiments or [setting.experiment])
            if selected and setting.name in (options.only or [setting.name]):
                entry = measure(setting, options, out)
                store(entry, options.out, ("experiment", "name"))
                store_in_family(entry, options.out.with_name("family.json"))
                out.json(entry)
        draw(read_json(options.out), options.out.with_suffix(".png"))


def settings() -> list[Setting]:
    """Return everything that is measured."""
    all_settings = []
    for weight in WEIGHTS:
        monitor = {"monitor": "rating.r2"} if weight == 1 else {}
        changes = {"train": {**monitor, "tasks": {"rating": {"weight": weight}}}}
        all_settings.append(Setting("rating", f"rating, weight {weight:g}", "joint", weight, changes))
    changes = {"train": {"tasks": {"rating": {}, "weighting": "uncertainty"}}}
    all_settings.append(Setting("rating", "rating, weight learned", "learned", None, changes))
    for experiment, kinds in (("stars", STARS), ("shop", ("view", "click", "purchase"))):
        all_settings += event_settings(experiment, kinds)
    return all_settings


def event_settings(experiment: str, kinds: Sequence[str]) -> list[Setting]:
    """Return the settings of an experiment whose last kind of event is asked for."""

    def setting(name: str, line: str, weight: float | None, **more: Any) -> Setting:
        events = {"kinds": list(kinds), "served": kinds[-1], "weights": None, **more.pop("events", {})}
        tasks = {"events": {key: value for key, value in events.items() if value is not None}, **more}
        return Setting(experiment, f"{experiment}, {name}", line, weight, {"train": {"tasks": tasks}})

    weighted = []
    for weight in WEIGHTS:
        weights = dict.fromkeys(kinds[:-1], weight)
        weighted.append(setting(f"weight {weight:g}", "heads", weight, events={"weights": weights}))
        if weight:  # without other events there is no other head
            alike = {"weights": weights, "heads": False}
            weighted.append(setting(f"weight {weight:g}, no heads", "no heads", weight, events=alike))
    return [*weighted, setting("weight learned", "learned", None, weighting="uncertainty")]


def measure(setting: Setting, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Train and evaluate a setting once per seed, on features that are made once per experiment."""
    path = EVENTS if setting.experiment == "shop" else family.RECIPE
    recipe = recipe_of(path, options)
    run = prepared(recipe, options, out)
    directory = with_stars(recipe, run.directory) if setting.experiment == "stars" else run.directory
    changed = family.with_changes(recipe, {"train": {"tasks": None}})
    changed = family.with_changes(changed, setting.changes)
    done = [family.trained(changed, directory, setting.name, seed, out) for seed in options.seeds]
    metrics = [read_json(run / "metrics.json") for run in done]
    measured_figures = [
        figures(run_metrics, best(towers, changed.train.monitor))
        for run_metrics, towers in zip(metrics, done, strict=True)
    ]
    return {
        "experiment": setting.experiment,
        "name": setting.name,
        "line": setting.line,
        "weight": setting.weight,
        "recipe": named(path),
        "protocol": asked_for(setting, recipe),
        "seeds": list(options.seeds),
        "metrics": {
            name: measured([seed_figures[name] for seed_figures in measured_figures]) for name in measured_figures[0]
        },
        "parameters": read_json(done[0] / "towers.json")["parameters"],
        "train_s": spread([run_metrics["cpu_s"] for run_metrics in metrics])["mean"],
    }


def asked_for(setting: Setting, recipe: Recipe) -> str:
    """Say in words which test rows the figures are of."""
    kind = {"stars": "; rows of five stars alone", "shop": "; purchases alone"}.get(setting.experiment, "")
    return protocol(recipe) + kind


def with_stars(recipe: Recipe, run: Path) -> Path:
    """Return a directory with features of the same rows, whose events are how many stars they got."""
    out = run / "stars"
    if not (out / "features").exists():
        from workflows.features import stage as features
        from workflows.tables.store import Tables

        tables = Tables.load(run / "tables")
        ratings = tables.interactions["rating"].to_numpy()
        events = np.array(STARS, dtype=object)[np.digitize(ratings, [3.5, 4.5])]
        rows = Tables(tables.interactions.assign(event=events), tables.users, tables.items)
        out.mkdir(exist_ok=True)
        features.build(rows, recipe.query, recipe.item, recipe.data.split, recipe.device, out / "features")
    return out


def figures(metrics: Mapping[str, Any], valid: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of one training: of the kind of rows asked for, of other kinds, of ratings; and `valid.*`.

    `all.*` and `unseen.*` are of the kind asked for where there are several. `KIND.served` and `KIND.own` are recall@10
    among all items by the vector that is served and by the kind's own head.
    """
    tasks = metrics["tasks"]
    events = tasks.get("events", {})
    served = events[tasks["served"]]["served"] if events else metrics
    values = {name: served[name.partition(".")[0]][name.partition(".")[2]] for name in family.FIGURES}
    for kind, of_kind in events.items():
        values.update(
            {f"{kind}.{side}": of_kind[side]["all"]["recall@10"] for side in ("served", "own") if side in of_kind}
        )
    if "rating" in tasks:
        values.update({name: tasks[first][side][error] for name, (first, side, error) in RATES.items()})
    values.update({f"learned.{term}": weight for term, weight in tasks.get("weights", {}).items()})
    return {**values, **{name.replace("valid_", "valid."): value for name, value in valid.items()}}


def best(towers: Path, monitor: str) -> dict[str, float]:
    """Return the validation figures of the best epoch."""
    epoch = max(read_json(towers / "history.json"), key=lambda record: record[f"valid_{monitor}"])
    return {name: value for name, value in epoch.items() if name.startswith("valid_")}


def store_in_family(entry: Mapping[str, Any], results: Path) -> None:
    """Put some settings into family.json, where `plain` is what has one weight for everything and no heads."""
    plain = entry["experiment"] != "rating" and entry["weight"] == 1 and entry["line"] == "no heads"
    if not plain and (entry["weight"] not in IN_FAMILY or entry["line"] == "no heads"):
        return
    first = [name for name in (SHOWN[entry["experiment"]], "head.rmse") if name in entry["metrics"]]
    names = first + [name for name in entry["metrics"] if name not in first and not name.startswith("learned.")]
    family_entry = family.made(
        family.PLAIN if plain else f"multi-task: {entry['name']}",
        ROOT / entry["recipe"],
        entry["protocol"],
        entry["seeds"],
        {name: entry["metrics"][name]["values"] for name in names},
        entry["parameters"],
        [entry["train_s"]],
        source="" if plain else "Kendall et al. 2018" if entry["weight"] is None else "Caruana 1997",
    )
    store(family_entry, results, family.KEY)


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw each experiment that was measured over the weight."""
    drawn = [name for name in SHOWN if any(result["experiment"] == name for result in results)]
    drawing, plots = figure(5 * len(drawn), 3.8, *(TITLES[name] for name in drawn))
    for axes, name in zip(plots, drawn, strict=True):
        entries = [result for result in results if result["experiment"] == name]
        if name == "rating":
            draw_rating(axes, entries)
        else:
            draw_events(axes, entries, *WORDS[name])
    drawing.savefig(path, dpi=150)


def draw_rating(axes: Any, entries: Sequence[Mapping[str, Any]]) -> None:
    """Recall on the left axis, the ratings' error on the right one."""
    second = axes.twinx()
    line(axes, entries, "joint", "unseen.recall@10", "C0", "recall@10, unseen films")
    line(second, entries, "joint", "head.rmse", "C3", "RMSE of the rating")
    learned(axes, entries, "unseen.recall@10", "C0", "recall@10, weight learned")
    learned(second, entries, "head.rmse", "C3", "RMSE, weight learned")
    for entry in entries[:1]:
        second.axhline(entry["metrics"]["biases.rmse"]["mean"], color="C3", linestyle=":", label="RMSE of biases")
    axes.set(xlabel="share of the loss that is the rating's", ylabel="recall@10, unseen films", ylim=(0, None))
    second.set(ylabel="RMSE of the rating, stars")
    handles = [*axes.get_legend_handles_labels()[0], *second.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, **BELOW)


def draw_events(axes: Any, entries: Sequence[Mapping[str, Any]], kind: str, dense: str) -> None:
    """Recall of the kind asked for, with heads for the others and without."""
    shown = SHOWN[entries[0]["experiment"]]
    line(axes, entries, "heads", shown, "C0", "a head for each other kind")
    line(axes, entries, "no heads", shown, "C1", "one vector for all kinds")
    learned(axes, entries, shown, "C0", "heads, weights learned")
    axes.set(xlabel=f"weight of {dense}", ylabel=f"recall@10 of {kind}")
    axes.legend(**BELOW)


def line(axes: Any, entries: Sequence[Mapping[str, Any]], name: str, metric: str, colour: str, label: str) -> None:
    """Draw a line of settings over their weights, with the standard deviation of the seeds."""
    members = sorted(
        (member for member in entries if member["line"] == name), key=lambda member: float(member["weight"])
    )
    if not members:
        return
    metrics = [member["metrics"][metric] for member in members]
    means, deviations = [figures["mean"] for figures in metrics], [figures["sd"] for figures in metrics]
    axes.errorbar(
        [member["weight"] for member in members], means, deviations, fmt=".-", color=colour, capsize=2, label=label
    )


def learned(axes: Any, entries: Sequence[Mapping[str, Any]], metric: str, colour: str, label: str) -> None:
    """Draw where the setting whose weights are learned comes to lie."""
    for entry in entries:
        if entry["line"] == "learned":
            axes.axhline(entry["metrics"][metric]["mean"], color=colour, linestyle="--", linewidth=1, label=label)


if __name__ == "__main__":
    main()
