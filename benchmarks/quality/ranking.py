"""Pre-ranking measured twice: told apart what users liked, as the IntTower paper does, and served after the towers.

    .venv/bin/python -m benchmarks.quality.ranking rated             AUC and log loss on MovieLens-100K, three seeds
    .venv/bin/python -m benchmarks.quality.ranking rated --recipe recipes/rated-1m.toml
    .venv/bin/python -m benchmarks.quality.ranking served            retrieve 200, then rank, on finished runs
    .venv/bin/python -m benchmarks.quality.ranking latency           the added milliseconds, in process, in turns
    .venv/bin/python -m benchmarks.quality.ranking draw              docs/ranking.png and entries of family.json

`rated` is the protocol of Li et al. (CIKM 2022), as their published code has it: ratings of 3 are left out, 4 and 5 are
positive, 1 and 2 negative, a fifth of the rows is the test, drawn at random. Their code also feeds every row the mean
label of its user and of its item *over the rows of its own part*, test labels of the test rows included. Both are
measured: `means of the training rows`, and `means of each part itself`, which knows part of the answer.

`served` takes the runs that benchmarks/quality/recipes.py left (features and towers, three seeds) and trains rankers
behind their towers. Entries of `benchmarks/results/ranking.json` that are measured again are replaced; so are those of
family.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from merlin.schema import Tags

from benchmarks.harness import ROOT, Parser, figure, in_turns, named, prepared, released, spread, store
from benchmarks.harness import measured as measured_of
from benchmarks.quality import family, recipes
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from models.config import Model
from models.evaluation.stage import Beside, evaluate
from models.ranking import config
from models.ranking.cold import Cold
from models.ranking.inttower import IntTower
from models.ranking.model import Batch, Features, RankingModel, Sides
from models.ranking.stage import train_ranker
from models.towers.two_tower import FeatureEmbeddings, TwoTowerModel
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe, load_recipe
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES, protocol
from workflows.columns import Columns
from workflows.config import RandomSplit
from workflows.features import stage as features
from workflows.features.stage import FeatureSet, Part
from workflows.files import atomic_directory
from workflows.tables.store import Tables

RATED = ROOT / "recipes" / "rated-100k.toml"
BASE = "movielens-100k"
_SOURCES = {"IntTower": "Li et al. 2022", "COLD": "Wang et al. 2020; FSCD, Ma et al. 2021"}
WHAT = ("rated", "served", "latency", "draw")
KEY = ("measured", "recipe", "means", "model")
SEEDS = (42, 43, 44)
EPOCHS, PATIENCE, BATCH, RATE = 20, 3, 512, 0.001
TRAINING_MEANS, OWN_MEANS = "means of the training rows", "means of each part itself"
KINDS: dict[str, config.Ranking] = {
    "IntTower": config.IntTower(),
    "IntTower, no contrast": config.IntTower(contrastive_weight=0.0),
    "COLD": config.Cold(),
    "COLD, FSCD": config.Cold(selection=config.FieldSelection()),
}


class TwoTower(RankingModel):
    """The base of the comparison: the inner product of two perceptrons; with `augmented` vectors DAT (Yu et al. 2021).

    Each id then has a vector beside its embedding that learns to be the other tower's output for what it was liked
    with; `regularisation` is its mimic loss.
    """

    def __init__(self, sides: Sides, settings: config.IntTower, embedded: Model, augmented: bool = False) -> None:
        super().__init__(sides)
        self.tables = [FeatureEmbeddings(spec, tag, embedded, {}) for spec, tag in _tagged(sides)]
        self.dropout = tf.keras.layers.Dropout(settings.dropout)
        self.towers = [
            tf.keras.Sequential(
                [
                    *(tf.keras.layers.Dense(units, "relu") for units in settings.layers[:-1]),
                    tf.keras.layers.Dense(settings.layers[-1]),
                ]
            )
            for _ in range(2)
        ]
        self.width = settings.layers[-1]
        self.imitations = [
            tf.keras.layers.Embedding(tagged[0].cardinality, self.width) for tagged, _ in _tagged(sides) if augmented
        ]

    def query_side(self, features: Features, training: bool = False) -> tf.Tensor:
        """Return the query tower's output and, in the second half, what it imitates."""
        return self._side(0, features, training)

    def own_item_side(self, features: Features, items: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the item tower's output and what it imitates."""
        return self._side(1, features, training)

    def interaction(
        self, query: tf.Tensor, own: tf.Tensor, features: Features, product: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the inner products."""
        return tf.einsum("nw,nmw->nm", query[:, : self.width], own[:, :, : self.width])

    def regularisation(self, query: tf.Tensor, own: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the mimic loss of the rows that are positive."""
        if not self.imitations:
            return tf.constant(0.0)
        width, item = self.width, own[:, 0]
        apart = tf.square(query[:, width:] - tf.stop_gradient(item[:, :width]))
        apart += tf.square(item[:, width:] - tf.stop_gradient(query[:, :width]))
        return 0.1 * tf.reduce_mean(tf.reduce_sum(apart, axis=1) * batch.labels[:, 0])

    def _side(self, side: int, features: Features, training: bool) -> tf.Tensor:
        values = self.dropout(self.tables[side](features, training=training), training=training)
        if not self.imitations:
            return self.towers[side](values)
        specs = (self.sides.query, self.sides.item)[side]
        imitated = self.imitations[side](features[specs[0].name])
        return tf.concat([self.towers[side](tf.concat([values, imitated], axis=1)), imitated], axis=1)


def _tagged(sides: Sides) -> list[tuple[list[Any], Any]]:
    return [(sides.query, Tags.USER), (sides.item, Tags.ITEM)]


MODELS: dict[str, Callable[[Sides, Model], RankingModel]] = {
    "two-tower": lambda sides, model: TwoTower(sides, config.IntTower(), model),
    "DAT": lambda sides, model: TwoTower(sides, config.IntTower(), model, augmented=True),
    "COLD": lambda sides, model: Cold(sides, config.Cold(), model),
    "IntTower": lambda sides, model: IntTower(sides, config.IntTower(), model),
}
"""What `rated` compares, in the paper's order from worst to best."""


class Labelled(NamedTuple):
    """Rows of one part: what is known of the user, which item, and whether it was liked."""

    query: dict[str, np.ndarray]
    items: np.ndarray
    labels: np.ndarray


def main() -> None:
    """Measure and write the results."""
    parser = Parser(__doc__, "ranking", "quality", SEEDS)
    parser.add_argument("what", nargs="?", choices=WHAT, help="all of them if none is given")
    parser.add_argument("--recipe", type=Path, default=RATED, help="of `rated`")
    parser.add_argument("--base", default=BASE, help="of `served` and `latency`: the runs' name without seed")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of `served`")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="of `rated`")
    parser.add_argument("--work", type=Path, help="features and rankers, kept; default runs/ranking")
    options = parser.options()
    options.work = options.work or options.runs.parent / "ranking"
    if options.quick:
        options.models, options.kinds = ["IntTower"], ["IntTower"]
    with terminal() as out:
        for what in (options.what,) if options.what else WHAT:
            STEPS[what](options, out)


def rated(options: argparse.Namespace, out: Terminal) -> None:
    """Measure AUC and log loss of models on what users liked and did not."""
    recipe, seeds = load_recipe(options.recipe), options.seeds
    for name in options.models:
        by_means: dict[str, list[dict[str, float]]] = {TRAINING_MEANS: [], OWN_MEANS: []}
        for seed in seeds:
            data = rated_features(recipe, seed, options, out)
            for means, values in by_means.items():
                epochs = 1 if options.quick else EPOCHS
                values.append(told_apart(name, data, recipe.model, seed, means == OWN_MEANS, epochs))
                out.say(f"{name}, seed {seed}, {means}: {values[-1]}")
        for means, values in by_means.items():
            entry = {
                "measured": "rated",
                "recipe": named(options.recipe),
                "means": means,
                "model": name,
                "seeds": list(seeds),
                "rows": len(data.test.interactions),
                **{name: measured_of([seed_figures[name] for seed_figures in values]) for name in ("auc", "log_loss")},
                "parameters": int(values[0]["parameters"]),
                "train_s": statistics.fmean(seed_figures["seconds"] for seed_figures in values),
            }
            store(entry, options.out, KEY)
            out.json(entry)


def rated_features(recipe: Recipe, seed: int, options: argparse.Namespace, out: Terminal) -> FeatureSet:
    """Return features of the rows that are not rated 3; a fifth is the test, a fifth of the rest validation."""
    directory = options.work / f"{recipe.name}-seed{seed}" / "features"
    if not directory.exists():
        run = prepared(recipe, options, out, "fetch").directory
        tables = Tables.load(run / "tables")
        rows = tables.interactions
        tables = dataclasses.replace(tables, interactions=rows[rows[Columns.Rating] != 3].reset_index(drop=True))
        split = RandomSplit(test=0.2, validation=0.2, seed=seed)
        with atomic_directory(directory) as temporary:
            features.build(tables, recipe.query, recipe.item, split, recipe.device, temporary)
    return features.load(directory)


def told_apart(name: str, data: FeatureSet, model: Model, seed: int, own_means: bool, epochs: int) -> dict[str, float]:
    """Train a model and return AUC and log loss on the test rows; the epoch is the one with the best validation AUC."""
    tf.keras.utils.set_random_seed(seed)
    train, valid, test = parts = [labelled(part) for part in (data.train, data.valid, data.test)]
    network, started = MODELS[name](Sides(data.query_specs, data.item_specs, 0), model), time.process_time()
    catalogue = TwoTowerModel(data.query_specs, data.item_specs, data.items, Model()).catalogue
    network.learn_from(catalogue, tf.zeros([len(data.catalogue), 0]), True)
    network.compile(optimizer=tf.keras.optimizers.AdamW(RATE, weight_decay=0.01))
    catalogues = [dict(catalogue) for _ in parts]
    if own_means:
        take_own_means(data, parts, catalogues)
    network.catalogue = catalogues[0]
    best, weights, since = 0.0, list[np.ndarray](), 0
    dataset = _batches(train, seed)
    for _ in range(epochs):
        network.fit(dataset, epochs=1, verbose=0)
        value = auc(valid.labels, scores(network, valid, catalogues[1]))
        since += 1
        if value > best:
            best, weights, since = value, network.get_weights(), 0
        if since == PATIENCE:
            break
    network.set_weights(weights)
    logits = scores(network, test, catalogues[2])
    return {
        "auc": auc(test.labels, logits),
        "log_loss": log_loss(test.labels, logits),
        "valid_auc": best,
        "parameters": network.parameters,
        "seconds": time.process_time() - started,
    }


def labelled(part: Part) -> Labelled:
    """Return the rows of a part."""
    rows = part.interactions
    labels = (rows[Columns.Rating].to_numpy() > 3).astype(np.float32)
    return Labelled(dict(part.query), rows[Columns.ItemIndex].to_numpy(np.int64), labels)


def take_own_means(data: FeatureSet, parts: Sequence[Labelled], catalogues: Sequence[dict[str, tf.Tensor]]) -> None:
    """Put the mean label of each user and item in the very part where the mean of the training rows was."""
    for spec in (query_spec for query_spec in data.query_specs if query_spec.kind == "vector"):
        users = [part.interactions[Columns.User].factorize()[0] for part in (data.train, data.valid, data.test)]
        of_rows = [_means(codes, part.labels, codes.max() + 1)[codes] for codes, part in zip(users, parts, strict=True)]
        for part, values in zip(parts, _standardised(of_rows, of_rows[0]), strict=True):
            part.query[spec.name] = values[:, None]
    for spec in (item_spec for item_spec in data.item_specs if item_spec.kind == "vector"):
        of_items = [_means(part.items, part.labels, len(data.catalogue)) for part in parts]
        for features_, values in zip(catalogues, _standardised(of_items, of_items[0][parts[0].items]), strict=True):
            features_[spec.name] = tf.constant(values[:, None])


def _standardised(parts: Sequence[np.ndarray], rows: np.ndarray) -> list[np.ndarray]:
    """Scale every part by the training rows' values, as the features that are replaced were."""
    return [(part - rows.mean()) / rows.std() for part in parts]


def _means(codes: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    sums, counts = np.bincount(codes, labels, count), np.bincount(codes, minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), labels.mean()).astype(np.float32)


def _batches(part: Labelled, seed: int) -> tf.data.Dataset:
    query = {name: tf.constant(values) for name, values in part.query.items()}
    items, labels = tf.constant(part.items[:, None]), tf.constant(part.labels[:, None])

    def batch(index: tf.Tensor) -> tuple[Any, ...]:
        gathered = {name: tf.gather(values, index) for name, values in query.items()}
        return gathered, tf.zeros([BATCH, 0]), tf.gather(items, index), tf.gather(labels, index), tf.ones([BATCH])

    rows = tf.data.Dataset.range(len(part.items)).shuffle(len(part.items), seed=seed)
    return rows.batch(BATCH, drop_remainder=True).map(batch).prefetch(2)


def scores(model: RankingModel, part: Labelled, catalogue: Features) -> np.ndarray:
    """Return the logits of a part's rows, float32 `[rows]`."""
    items = tf.range(len(model.vectors), dtype=tf.int64)
    sides, logits = model.item_side(catalogue, items, model.vectors), []
    for start in range(0, len(part.items), 8192):
        rows = slice(start, start + 8192)
        query = {name: tf.constant(values[rows]) for name, values in part.query.items()}
        own = tf.gather(sides, part.items[rows])[:, tf.newaxis]
        logits.append(model.scores(query, tf.zeros([len(own), 0]), own).numpy()[:, 0])
    return np.concatenate(logits)


def auc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the area under the ROC curve, equal scores counted half."""
    _, place, counts = np.unique(logits, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = labels.sum()
    return float((ranks[labels > 0].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive)))


def log_loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the mean binary cross-entropy."""
    logits = logits.astype(np.float64)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def served(options: argparse.Namespace, out: Terminal) -> None:
    """Train rankers behind finished towers and measure what is served, beside retrieval alone."""
    for kind in options.kinds:
        served_by(kind, options, out)


def run_of(seed: int, options: argparse.Namespace, out: Terminal) -> Run:
    """Return the run with a seed that recipes.py left; with `--quick` one that is made."""
    if options.quick:
        return recipes.run_of(ROOT / "recipes" / f"{options.base}.toml", seed, options, out)
    return Run.open(options.runs / f"{options.base}-seed{seed}", STAGES)


def served_by(kind: str, options: argparse.Namespace, out: Terminal) -> None:
    """Train one kind of ranker per seed and store what is served, beside retrieval alone."""
    measured_seeds, seeds, base = [], options.seeds, options.base
    for seed in seeds:
        run = run_of(seed, options, out)
        ranker = ranker_of(kind, run, options.work, out)
        recipe = run.recipe
        measured = evaluate(
            run.directory / "features",
            run.directory / "towers",
            "",
            recipe.train.objective.rating,
            beside=Beside(ranker),
        )
        measured_seeds.append({**measured, **json.loads((ranker / "params.json").read_text(encoding="utf-8"))})
        ranked, alone = (
            seed_figures["unseen"]["ndcg@10"] for seed_figures in (measured_seeds[-1], measured_seeds[-1]["retrieval"])
        )
        out.say(f"{kind}, seed {seed}: ndcg@10 {ranked:.4f}, retrieval alone {alone:.4f}")
    path = ROOT / "recipes" / f"{base}.toml"
    entry = {
        "measured": "served",
        "recipe": named(path),
        "means": "",
        "model": kind,
        "seeds": list(seeds),
        "rows": measured_seeds[0]["rows"],
        "candidates": measured_seeds[0]["candidates"],
        "ranked": spreads(measured_seeds),
        "retrieval": spreads([seed_figures["retrieval"] for seed_figures in measured_seeds]),
        "gain": {
            f"{side}.{name}": spread(
                [seed_figures[side][name] - seed_figures["retrieval"][side][name] for seed_figures in measured_seeds]
            )
            for side, name in figures()
        },
        "parameters": measured_seeds[0]["parameters"],
        "train_s": statistics.fmean(seed_figures["train_s"] for seed_figures in measured_seeds),
        "fields": measured_seeds[0].get("fields"),
        "values": {
            name: {f"{side}.{key}": [seed_figures[side][key] for seed_figures in part] for side, key in figures()}
            for name, part in (
                ("ranked", measured_seeds),
                ("retrieval", [seed_figures["retrieval"] for seed_figures in measured_seeds]),
            )
        },
        "towers": json.loads((run.directory / "towers" / "towers.json").read_text(encoding="utf-8"))["parameters"],
        "protocol": protocol(run.recipe),
    }
    store(entry, options.out, KEY)
    out.json(entry)


def figures() -> Iterator[tuple[str, str]]:
    """Yield the sides and figures that are reported."""
    for side in ("unseen", "all"):
        for name in ("recall@10", "ndcg@10", "recall@100", "recall@50", "mrr"):
            yield side, name


def spreads(per_seed: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation of each figure."""
    return {
        f"{side}.{name}": spread([seed_figures[side][name] for seed_figures in per_seed]) for side, name in figures()
    }


def ranker_of(kind: str, run: Run, place: Path, out: Terminal) -> Path:
    """Return the directory of a ranker behind a run's towers, trained unless it is there."""
    directory = place / run.recipe.name / kind.replace(", ", "-").replace(" ", "-")
    if not directory.exists():
        recipe, data = run.recipe, features.load(run.directory / "features")
        with atomic_directory(directory) as temporary:
            settings = KINDS[kind], recipe.model, recipe.train, recipe.seed, recipe.device
            train_ranker(data, run.directory / "towers", *settings, temporary, out.say)
    return directory


def latency(options: argparse.Namespace, out: Terminal, turns: int = 200) -> None:
    """Answer single rows with and without each ranker, in turns, in this process; medians in milliseconds."""
    run, place = run_of(options.seeds[0], options, out), options.work
    trained = {kind: place / run.recipe.name / kind.replace(", ", "-").replace(" ", "-") for kind in KINDS}
    users = features.load(run.directory / "features").users[Columns.User].to_numpy()
    requests = [
        {"user_id": users[row : row + 1, None]} for row in np.random.default_rng(0).integers(0, len(users), turns)
    ]
    rankers = {"retrieval": None, **{kind: ranker for kind, ranker in trained.items() if ranker.exists()}}
    calls = {}
    for kind, ranker in rankers.items():
        out_ = place / "releases" / (ranker.name if ranker else kind)
        retriever = Retriever(Release.open(released((run.features, run.towers, out_, ranker), run.recipe.name)))
        calls[kind] = partial(
            lambda answering, question: answering.answer(answering.reader.read([question])), retriever
        )
    in_turns(calls, requests[:20])  # so that none pays for a first time
    medians = in_turns(calls, requests)
    entry = {
        "measured": "latency",
        "recipe": f"recipes/{options.base}.toml",
        "means": "",
        "model": "all",
        "requests": turns,
        "p50_ms": medians,
        "added_ms": {kind: round(median - medians["retrieval"], 4) for kind, median in medians.items()},
    }
    store(entry, options.out, KEY)
    out.json(entry)


def entries(results: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what family.json has of rankers, and of the towers that they were measured behind."""
    times = {entry["recipe"]: entry["p50_ms"] for entry in results if entry["measured"] == "latency"}
    for entry in (entry for entry in results if entry["measured"] == "served"):
        path, seeds, spent = ROOT / entry["recipe"], entry["seeds"], times.get(entry["recipe"], {})
        values, size = entry["values"], entry["parameters"] + entry["towers"]
        common = path, entry["protocol"], seeds
        yield family.made(
            family.PLAIN, *common, values["retrieval"], entry["towers"], (), serve_p50_ms=spent.get("retrieval")
        )
        yield family.made(
            f"ranker, {entry['model']}",
            *common,
            values["ranked"],
            size,
            [entry["train_s"]],
            serve_p50_ms=spent.get(entry["model"]),
            source=_SOURCES[entry["model"].partition(",")[0]],
        )


def show(options: argparse.Namespace, out: Terminal) -> None:
    """Draw the picture and write the entries of family.json."""
    results = json.loads(options.out.read_text(encoding="utf-8"))
    draw(results, family.picture(options))
    for entry in entries(results):
        store(entry, options.out.with_name("family.json"), family.KEY)


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw ndcg@10 and recall@10 of what is served over the median time of a request, a dot for each seed."""
    times = {entry["recipe"]: entry["p50_ms"] for entry in results if entry["measured"] == "latency"}
    names, base = ("unseen.ndcg@10", "unseen.recall@10"), f"recipes/{BASE}.toml"
    drawing, plots = figure(8, 3.6, *map(family.title, names))
    for name, axes in zip(names, plots, strict=True):
        rankers = [entry for entry in results if entry["measured"] == "served" and entry["recipe"] == base]
        points = {entry["model"]: entry["values"]["ranked"][name] for entry in rankers}
        for colour, (model, values) in enumerate(
            {"retrieval": rankers[0]["values"]["retrieval"][name], **points}.items()
        ):
            spent = times[base][model]
            axes.plot([spent] * len(values), values, "o", color=f"C{colour}", alpha=0.5, markersize=5, label=model)
            axes.plot([spent], [statistics.fmean(values)], "_", color=f"C{colour}", markersize=16, markeredgewidth=2)
        axes.set_xlabel("median of a request, in process, ms")
    axes.legend(fontsize=8)
    drawing.savefig(path, dpi=150)


STEPS: dict[str, Callable[[argparse.Namespace, Terminal], None]] = {
    "rated": rated,
    "served": served,
    "latency": latency,
    "draw": show,
}


if __name__ == "__main__":
    main()
