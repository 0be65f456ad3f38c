"""Training speed beside TensorFlow Recommenders: the same rows, features, towers [64, 32] and batch size.

    .venv/bin/python -m benchmarks.scale.training_speed --rounds 3 --epochs 8

Each round trains both models, every training in a process of its own, in turns (A B, B A, ...), so that a machine that
gets slower or faster meanwhile does so for both. Theirs is the model of the tutorial "Building deep retrieval models"
(https://www.tensorflow.org/recommenders/examples/deep_recommenders), its batches cached. Ours is
`models.training.stage.train` on recipes/tutorial.toml, with its own objective and optimiser. Both are validated on the
same rows (theirs by the tutorial's FactorizedTopK, once), which counts for the memory and not for the time. The first
epoch, which traces the graph, does not count. The large task, of a million users and items, is in training_at_scale.py;
its steps are also timed with fewer ids, which tells what the size of a table costs. Results:
benchmarks/results/training_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.harness import ROOT, Parser, in_process, machine, peak_mb, prepared, recipe_of, told, write
from benchmarks.scale import training_at_scale as at_scale
from benchmarks.scale.training_at_scale import dense, epoch_clock, import_tfrs
from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.recipes.recipe import load_recipe

RECIPE = ROOT / "recipes" / "tutorial.toml"
TOWER, EMBEDDING, BATCH, SEED = (64, 32), 32, 2048, 42
OURS, THEIRS = "merlin-retrieval", "tfrs"


def main() -> None:
    """Measure in turns and write the results; with --worker: train one model and print its figures."""
    parser = Parser(__doc__, "training_speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--worker", choices=[OURS, THEIRS], help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    arguments = parser.options()
    if arguments.quick:
        arguments.rounds, arguments.epochs = 1, 2
    if arguments.worker:
        silence_libraries()
        sys.stdout.write(json.dumps(trained(arguments)) + "\n")
        return
    with terminal() as out:
        run = prepared(recipe_of(RECIPE, arguments), arguments, out)
        results = measure(run.directory / "features", arguments.rounds, arguments.epochs, out)
        results |= measure_at_scale(arguments.quick, arguments.rounds, out)
        write(arguments.out, results)
        out.json(results)


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """Train one model and return its figures."""
    if options.features:
        return (train_ours if options.worker == OURS else train_theirs)(options.features, options.epochs)
    task = (at_scale.QUICK if options.quick else at_scale.WHOLE)._replace(vocabulary=options.vocabulary)
    seconds, *memory = (at_scale.train_ours if options.worker == OURS else at_scale.train_theirs)(task, options.epochs)
    return figures(task.rows, seconds, *memory)


def measure_at_scale(quick: bool, rounds: int, out: Terminal) -> dict[str, Any]:
    """Train the large task by both in turns, and by us with fewer users and items; return what is added."""
    task = at_scale.QUICK if quick else at_scale.WHOLE
    sizes = sorted({size for size in at_scale.VOCABULARIES if size < task.vocabulary} | {task.vocabulary})
    options = ["--epochs", at_scale.EPOCHS, *(["--quick"] if quick else [])]
    ours = [(f"{OURS}, {size:,} ids", [OURS, "--vocabulary", size, *options]) for size in sizes]
    theirs = (THEIRS, [THEIRS, "--vocabulary", task.vocabulary, *options])
    by_side, loads = in_turns([*ours, theirs], rounds, out)
    largest = by_side[ours[-1][0]]
    return {
        "ratio_vs_tfrs_large": ratio(largest, by_side[THEIRS], "examples_per_s"),
        "memory_ratio_vs_tfrs_large": ratio(largest, by_side[THEIRS], "peak_mb"),
        "step_ms_by_vocabulary": {
            str(size): round(1000 * task.batch / by_side[name]["examples_per_s"], 1)
            for size, (name, _) in zip(sizes, ours, strict=True)
        },
        "large": {**by_side, **task._asdict(), "load_average": loads},
    }


def in_turns(sides: Sequence[tuple[str, list[Any]]], rounds: int, out: Terminal) -> tuple[dict[str, Any], list[float]]:
    """Train the sides, by name with the arguments of their processes, in turns; return each one's figures, and the
    machine's load."""
    by_side: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in sides}
    loads = [os.getloadavg()[0]]
    for number in range(rounds):
        for name, arguments in sides[:: -1 if number % 2 else 1]:
            figure = told(in_process(__file__, "--worker", *arguments))
            by_side[name].append(figure)
            out.say(f"round {number + 1}, {name}: {figure['examples_per_s']:,.0f} examples/s, {figure['peak_mb']} MB")
            loads.append(os.getloadavg()[0])
    return {name: summed_up(measurements) for name, measurements in by_side.items()}, [round(load, 2) for load in loads]


def ratio(ours: dict[str, Any], theirs: dict[str, Any], key: str) -> float:
    """Return how many times theirs ours is."""
    return round(float(ours[key] / theirs[key]), 3)


def measure(features: Path, rounds: int, epochs: int, out: Terminal) -> dict[str, Any]:
    """Train both models in turns and sum up."""
    options = ["--features", features, "--epochs", epochs]
    sides, loads = in_turns([(side, [side, *options]) for side in (OURS, THEIRS)], rounds, out)
    return {
        "ratio_vs_tfrs": ratio(sides[OURS], sides[THEIRS], "examples_per_s"),
        "memory_ratio_vs_tfrs": ratio(sides[OURS], sides[THEIRS], "peak_mb"),
        **sides,
        "tower": TOWER,
        "embedding_dim": EMBEDDING,
        "batch_size": BATCH,
        "rounds": rounds,
        "epochs": epochs,
        "machine": {
            **machine("tensorflow-cpu", "tensorflow-recommenders", "merlin-models", "numpy"),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "load_average": loads,
        },
    }


def summed_up(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; all of a round's epochs are kept beside them."""
    return {
        "examples_per_s": round(statistics.median(figure["examples_per_s"] for figure in rounds)),
        "peak_mb": round(statistics.median(figure["peak_mb"] for figure in rounds)),
        "imported_mb": round(statistics.median(figure["imported_mb"] for figure in rounds)),
        "rounds": rounds,
    }


def figures(rows: int, seconds: list[float], peak_mb: float, imported_mb: float) -> dict[str, Any]:
    """Return examples per second of the median epoch, the first left out, and memory."""
    counted = seconds[1:]
    return {
        "examples_per_s": rows / statistics.median(counted),
        "epoch_seconds": [round(epoch, 3) for epoch in seconds],
        "peak_mb": round(peak_mb, 1),
        "imported_mb": round(imported_mb, 1),
    }


def train_ours(features: Path, epochs: int) -> dict[str, Any]:
    """Train the recipe's rows by the project's own stage."""
    from workflows.features.stage import load

    recipe = load_recipe(RECIPE)
    model = replace(recipe.model, tower=TOWER, embedding_dim=EMBEDDING)
    settings = replace(recipe.train, epochs=epochs, patience=epochs, batch_size=BATCH, refit=False, distillation=None)
    data = load(features)
    rows = len(data.train.interactions) // BATCH * BATCH  # the short last batch is left out
    return figures(rows, *at_scale.train_by_the_stage(data, model, settings, SEED))


def train_theirs(features: Path, epochs: int) -> dict[str, Any]:
    """Train the tutorial's model."""
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    tfrs = import_tfrs()
    tf.keras.utils.set_random_seed(SEED)
    titles = pd.read_parquet(features / "catalogue.parquet")["title"].to_numpy(str)
    columns, valid = (columns_of(features / part / "interactions.parquet", titles) for part in ("train", "valid"))
    imported, seconds = peak_mb(), list[float]()
    queries = query_tower(tf, np.unique(columns["user_id"]), columns["timestamp"])
    candidates = candidate_tower(tf, titles)

    class Tutorial(tfrs.models.Model):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.candidates = queries, candidates
            movies = tf.data.Dataset.from_tensor_slices(titles).batch(128).map(candidates)
            self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates=movies))

        def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            vectors = self.queries(features), self.candidates(features["movie_title"])
            return self.task(*vectors, compute_metrics=not training)

    model = Tutorial()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    data = tf.data.Dataset.from_tensor_slices(columns).shuffle(100_000, seed=SEED).batch(BATCH).cache()
    validation = tf.data.Dataset.from_tensor_slices(valid).batch(4096).cache()
    clock = epoch_clock(tf, seconds)
    model.fit(data, epochs=epochs, verbose=0, validation_data=validation, validation_freq=epochs, callbacks=[clock])
    return figures(len(columns["user_id"]), seconds, peak_mb(), imported)


def columns_of(path: Path, titles: Any) -> dict[str, Any]:
    """Read what the tutorial's model is fed: user ids and titles as strings, and the time."""
    import pandas as pd

    rows = pd.read_parquet(path)
    return {
        "user_id": rows["user_id"].astype(str).to_numpy(str),
        "timestamp": rows["timestamp"].to_numpy("int64"),
        "movie_title": titles[rows["item_index"].to_numpy()],
    }


def query_tower(tf: Any, users: Any, timestamps: Any) -> Any:
    """Return the tutorial's query model: user id, time in 1000 buckets, time normalised."""
    import numpy as np

    edges = np.linspace(timestamps.min(), timestamps.max(), num=1000)
    user = lookup_embedding(tf, users, None)
    bucket = tf.keras.Sequential(
        [tf.keras.layers.Discretization(edges.tolist()), tf.keras.layers.Embedding(len(edges) + 1, EMBEDDING)]
    )
    normalised = tf.keras.layers.Normalization(axis=None)
    normalised.adapt(timestamps)

    class Queries(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.bucket, self.normalised, self.dense = user, bucket, normalised, dense(tf, TOWER)

        def call(self, features: dict[str, Any]) -> Any:
            time = features["timestamp"]
            number = tf.reshape(self.normalised(time), (-1, 1))
            return self.dense(tf.concat([self.user(features["user_id"]), self.bucket(time), number], axis=1))

    return Queries()


def candidate_tower(tf: Any, titles: Any) -> Any:
    """Return the tutorial's candidate model: the title, and the words of the title."""
    title = lookup_embedding(tf, titles, None)
    words = tf.keras.layers.TextVectorization(max_tokens=10_000)
    words.adapt(titles)
    text = tf.keras.Sequential(
        [
            words,
            tf.keras.layers.Embedding(10_000, EMBEDDING, mask_zero=True),
            tf.keras.layers.GlobalAveragePooling1D(),
        ]
    )

    class Candidates(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.title, self.text, self.dense = title, text, dense(tf, TOWER)

        def call(self, titles: Any) -> Any:
            return self.dense(tf.concat([self.title(titles), self.text(titles)], axis=1))

    return Candidates()


def lookup_embedding(tf: Any, vocabulary: Any, mask: str | None) -> Any:
    lookup = tf.keras.layers.StringLookup(vocabulary=vocabulary, mask_token=mask)
    return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(vocabulary) + 1, EMBEDDING)])


if __name__ == "__main__":
    main()
