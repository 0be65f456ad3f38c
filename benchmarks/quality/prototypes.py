"""The genres of films that nobody has labelled: class prototypes beside nearest neighbours.

    .venv/bin/python -m benchmarks.quality.prototypes
    .venv/bin/python -m benchmarks.quality.prototypes --quick          one seed, one epoch

Towers are kept under `--runs`, so an interrupted measurement continues.

Towers are those of recipes/family.toml without the genres among the item's features, and as they are, with the genres
left empty when vectors are made to be labelled (what `retrieval classify` does). Per seed, a tenth of the films is
taken out of training: *new films* have a vector of title words and year alone. Of the films that stay, the labels of
two tenths are hidden: *known films*, whose vectors come from who rated them; on the first k is chosen, the other is
reported. `leaking` is what towers that see the genres seem to do if these are not left empty. `prior` ranks genres by
how many films have them. Results: benchmarks/results/prototypes.json, with the time of one film on one thread and the
size.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import ROOT, Parser, named, prepared, recipe_of, spread, store, write
from benchmarks.quality import family
from benchmarks.quality.cold_start import HeldOut, Mask, as_new, reduce_features
from ensemble.catalogue.prototypes import NEIGHBOURS, Neighbours, Prototypes, quality
from models.metrics import Float32Array
from models.towers.onnx import run_tower
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe
from workflows.features import stage as features
from workflows.features.stage import FeatureSet

RECIPE = ROOT / "recipes" / "family.toml"
SEEDS, SHARE, KS = (42, 43, 44), 0.1, (5, 10, 20, 50)
LABEL = "genres"
FILMS, LARGE, TIMED = 1659, 100_000, 200


class Films(NamedTuple):
    """Which films are for what, bool [films] each."""

    new: Mask
    """Not trained on."""
    chosen_on: Mask
    reported: Mask
    labelled: Mask

    @classmethod
    def draw(cls, labels: Mask, seed: int) -> Films:
        """Draw a tenth of the films, and two tenths of the others; those without a label are left where they are."""
        order = np.random.default_rng(seed).permutation(len(labels))
        parts = np.zeros((3, len(labels)), dtype=bool)
        size = round(SHARE * len(labels))
        for number, part in enumerate(parts):
            part[order[number * size : (number + 1) * size]] = True
        new, chosen_on, reported = parts
        return cls(new, chosen_on, reported, ~parts.any(axis=0) & labels.any(axis=1))


def main() -> None:
    """Train twice per seed, measure, write the results."""
    options = Parser(__doc__, "prototypes", seeds=SEEDS).options()
    seeds = options.seeds
    with terminal() as out, tempfile.TemporaryDirectory() as name:
        work = options.runs / "prototypes"
        measured = {
            towers: measure(recipe, work / towers.replace(" ", "-"), options, seeds, out)
            for towers, recipe in recipes(Path(name), options).items()
        }
        results: dict[str, Any] = {"recipe": named(RECIPE), "label": LABEL, "seeds": seeds}
        results.update({towers: spreads(figures_of_seeds) for towers, figures_of_seeds in measured.items()})
        results["cost"] = cost((FILMS,) if options.quick else (FILMS, LARGE))
        for entry in entries(measured["without the label"], seeds, results["cost"]):
            store(entry, options.out.with_name("family.json"), family.KEY)
        write(options.out, results)
        out.json(results)


def recipes(folder: Path, options: argparse.Namespace) -> dict[str, Recipe]:
    """Return the recipe without the label among the item's features, and as it is."""
    text = RECIPE.read_text(encoding="utf-8")
    without = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{LABEL} ="))
    (folder / "unlabelled.toml").write_text(without.replace('name = "family"', 'name = "unlabelled"'), encoding="utf-8")
    return {
        "without the label": recipe_of(folder / "unlabelled.toml", options),
        "with the label": recipe_of(RECIPE, options),
    }


def measure(
    recipe: Recipe, work: Path, options: argparse.Namespace, seeds: list[int], out: Terminal
) -> list[dict[str, dict[str, dict[str, float]]]]:
    """Return the figures of every seed, by group of films and method."""
    from models.training.stage import train

    run = prepared(recipe, options, out)
    data = features.load(run.directory / "features")
    labels, measured = labels_of(data), []
    for seed in seeds:
        films, place = Films.draw(labels, seed), work / str(seed)
        if not (place / "towers" / "towers.json").is_file():  # written last
            shutil.rmtree(place, ignore_errors=True)
            reduce_features(run.directory / "features", HeldOut(films.new, np.array([])), place / "features")
            rest = features.load(place / "features")
            train(rest, recipe.model, recipe.train, seed, recipe.device, place / "towers", out.step)
        measured.append(figures(data, films, labels, place))
        out.say(f"{recipe.name}, seed {seed}: {json.dumps(measured[-1])}")
    return measured


def spreads(per_seed: list[dict[str, dict[str, dict[str, float]]]]) -> dict[str, dict[str, Any]]:
    """Return means and standard deviations over the seeds."""
    return {
        group: {
            method: {
                figure: spread([seed_figures[group][method][figure] for seed_figures in per_seed])
                for figure in figures_of
            }
            for method, figures_of in methods.items()
        }
        for group, methods in per_seed[0].items()
    }


def entries(
    per_seed: list[dict[str, dict[str, dict[str, float]]]], seeds: list[int], costs: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield what family.json, the choices of docs/models.md, has of both methods."""
    for choice, method in {"class prototypes": "prototypes", "nearest neighbours": "neighbours"}.items():
        figures = {
            f"{name} of {group}": [seed_figures[group][method][name] for seed_figures in per_seed]
            for name in ("precision@1", "map")
            for group in ("new films", "known films")
        }
        time_ms = next(iter(costs.values()))[f"{method}_ms"]
        source = "Qi et al. 2018" if method == "prototypes" else "Fix and Hodges 1951"
        protocol = "genres of films that nobody labelled, towers without genres"
        yield family.made(choice, RECIPE, protocol, seeds, figures, None, [], time_ms, source)


def labels_of(data: FeatureSet) -> Mask:
    """Return the genres of films, bool [films, genres]."""
    listed = [list(labels) for labels in data.catalogue[LABEL]]
    names = sorted({name for labels in listed for name in labels})
    return np.array([[name in labels for name in names] for labels in listed])


def figures(data: FeatureSet, films: Films, labels: Mask, place: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return how well each method orders the genres of each group of films."""
    by_group: dict[str, dict[str, dict[str, float]]] = {"new films": {}, "known films": {}}
    blank = vectors_of(data, films.new, place, blank=True)
    k = best_k(blank, films, labels)
    learned, known = blank[films.labelled], labels[films.labelled]
    methods: dict[str, Any] = {
        "prototypes": Prototypes(learned, known),
        "neighbours": Neighbours(learned, known, k),
    }
    for group, rows in {"new films": films.new, "known films": films.reported}.items():
        for method, labeller in methods.items():
            by_group[group][method] = {**quality(labeller.score(blank[rows]), labels[rows]), "k": k}
        by_group[group]["prior"] = quality(np.tile(known.mean(axis=0), (int(rows.sum()), 1)), labels[rows])
        if any(spec.source == LABEL for spec in data.item_specs):
            seen = vectors_of(data, films.new, place, blank=False)
            leaking = Prototypes(seen[films.labelled], known).score(seen[rows])
            by_group[group]["leaking prototypes"] = quality(leaking, labels[rows])
    return by_group


def best_k(vectors: Float32Array, films: Films, labels: Mask) -> int:
    """Return the number of neighbours with the best mean average precision on films that are not reported."""
    learned, known = vectors[films.labelled], labels[films.labelled]
    chosen = films.chosen_on
    precision = {k: quality(Neighbours(learned, known, k).score(vectors[chosen]), labels[chosen])["map"] for k in KS}
    return max(precision, key=lambda k: precision[k])


def vectors_of(data: FeatureSet, new: Mask, place: Path, blank: bool) -> Float32Array:
    """Return all films' vectors, those of new films as the tower makes them of a stranger; `blank`: without label."""
    trained = features.load(place / "features")
    return run_tower(place / "towers" / "item.onnx", as_new(data, new, trained, LABEL if blank else None))


def cost(sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return milliseconds of CPU for one item, and bytes, of both methods, for as many films as there are and more."""
    rng, costs = np.random.default_rng(0), {}
    for items in sizes:
        vectors = rng.normal(size=(items, 64)).astype(np.float32)
        labels = rng.random((items, 19)) < 0.1
        methods: Mapping[str, Any] = {
            "prototypes": Prototypes(vectors, labels),
            "neighbours": Neighbours(vectors, labels),
        }
        times: dict[str, list[float]] = {name: [] for name in methods}
        for row in range(TIMED):
            for name, labeller in methods.items():
                started = time.thread_time()
                labeller.score(vectors[row : row + 1])
                times[name].append(time.thread_time() - started)
        costs[f"{items} items, k = {NEIGHBOURS}"] = {
            f"{name}_{what}": value
            for name, labeller in methods.items()
            for what, value in (("ms", round(1e3 * float(np.median(times[name])), 4)), ("bytes", labeller.nbytes))
        }
    return costs


if __name__ == "__main__":
    main()
